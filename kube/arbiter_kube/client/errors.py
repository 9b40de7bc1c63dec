"""What can go wrong between a process and the API server.

    KubeError
    ├── Unreachable        no answer: refused, reset, timed out, not HTTP
    ├── UnreadableError    an answer that is not the object it should be
    ├── NotLeadingError    nothing was sent: another replica may lead by now
    └── ApiError           the API server's own refusal, with its status and reason
        ├── NotFound 404, Conflict 409, Gone 410, Invalid 422, Forbidden 403, TooManyRequests 429
        └── EvictionRefused     429 or 500, for the sake of PodDisruptionBudgets

Every text names the verb, the resource and the object. Imports msgspec and what makes JSON unreadable.
"""

import msgspec

from arbiter_kube.api.reading import UNREADABLE


class KubeError(Exception):
    """Anything that kept a request from doing its work."""


class Unreachable(KubeError):  # noqa: N818 - the field's word for it
    """No answer came; a write may or may not have happened unless `never_sent`."""

    def __init__(self, text: str, *, never_sent: bool = False) -> None:
        super().__init__(text)
        self.never_sent = never_sent


class UnreadableError(KubeError):
    """The answer is not the object that it should be."""


class NotLeadingError(KubeError):
    """Nothing was sent, since this process does not lead, or no longer."""


class ApiError(KubeError):
    """The API server refused. `status` is HTTP's, `reason` and `message` are the API server's."""

    def __init__(
        self, *, action: str, status: int, reason: str = "", message: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(f"{action}: {status} {reason or 'refused'}: {message}")
        self.action = action
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed later without anybody changing anything."""
        return self.status == 429 or self.status >= 500


class NotFound(ApiError):  # noqa: N818 - the API server's word for it
    """The object does not exist."""


class Conflict(ApiError):  # noqa: N818 - the API server's word for it
    """Somebody else wrote first, the name is taken, or a precondition does not hold."""


class Gone(ApiError):  # noqa: N818 - the API server's word for it
    """The resource version is too old to continue from."""


class Forbidden(ApiError):  # noqa: N818 - the API server's word for it
    """RBAC or admission refuses."""


class Invalid(ApiError):  # noqa: N818 - the API server's word for it
    """Validation refuses: schema, CEL or built in."""


class TooManyRequests(ApiError):  # noqa: N818 - the API server's word for it
    """The API server is busy; `retry_after` is in seconds."""


class EvictionRefused(ApiError):  # noqa: N818 - as those above
    """A PodDisruptionBudget protects the pod now, or there are several, with which the API server evicts nobody."""


_BY_STATUS: dict[int, type[ApiError]] = {
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


class _StatusCause(msgspec.Struct):
    reason: str = ""


class _StatusDetails(msgspec.Struct, rename="camel"):
    retry_after_seconds: float | None = None
    causes: list[_StatusCause] = []


class Status(msgspec.Struct):
    """metav1.Status, as refusals and ends of watches carry it."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: _StatusDetails | None = None

    @property
    def is_of_budgets(self) -> bool:
        """Whether it is an eviction's refusal; of several budgets there is nothing but the sentence."""
        causes = self.details.causes if self.details else []
        return any(cause.reason == "DisruptionBudget" for cause in causes) or (
            self.code == 500 and "more than one PodDisruptionBudget" in self.message
        )


def api_error(*, action: str, status: int, body: bytes, retry_after: float | None = None) -> ApiError:
    """The error for a refusal; `action` is verb, resource and object, `body` a metav1.Status or any text."""
    try:
        answer = msgspec.json.decode(body, type=Status)
    except UNREADABLE:
        answer = Status(message=body[:300].decode(errors="replace").strip())
    code = status or answer.code or 500
    details = answer.details.retry_after_seconds if answer.details else None
    kind = EvictionRefused if answer.is_of_budgets else _BY_STATUS.get(code, ApiError)
    return kind(
        action=action,
        status=code,
        reason=answer.reason,
        message=answer.message,
        retry_after=retry_after if retry_after is not None else details,
    )
