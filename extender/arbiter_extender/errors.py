"""What can go wrong in the extender.

    ExtenderError
    ├── BadRequestError    kube-scheduler, or somebody else, sent what cannot be answered
    └── BindError          a pod was not bound, or not yet

Every text is one sentence that names the object; kube-scheduler shows those of BindError in the pod's events.
"""


class ExtenderError(Exception):
    """Anything that kept the extender from doing what it was asked to."""


class BadRequestError(ExtenderError):
    """The request cannot be answered."""


class BindError(ExtenderError):
    """The pod was not bound, or the API server has not said so yet."""
