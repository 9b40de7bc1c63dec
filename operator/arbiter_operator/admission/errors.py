"""Why a pod is not let in. Imports the standard library only."""


class RefusedError(Exception):
    """A pod that cannot be what it asks to be; the text is the sentence that its creator reads."""
