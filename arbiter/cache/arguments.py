"""What people hand to the cache: taken as it is, or refused in one sentence by an error of the cache's own.

Imports the core and the standard library only.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import TIMEOUT_MAX

from arbiter.arguments import count, one_of, seconds
from arbiter.cache.errors import CacheConfigError, InvalidFragmentError
from arbiter.cache.fragment import Fragment, FragmentId
from arbiter.workload import WorkloadType


@contextmanager
def refusals() -> Iterator[None]:
    """Has `arbiter.arguments` refuse by a CacheConfigError."""
    try:
        yield
    except ValueError as error:
        raise CacheConfigError(str(error)) from error


def fragment_of(given: object) -> Fragment:
    """A fragment.

    Raises:
        InvalidFragmentError: it is none.
    """
    if not isinstance(given, Fragment):
        raise InvalidFragmentError(
            f"an object of class {type(given).__name__} is no fragment; write Fragment.of(content), or "
            "Fragment(id=..., size=...)."
        )
    return given


def id_of(given: object) -> FragmentId:
    """The id of a fragment that is named by it, or by itself.

    Raises:
        InvalidFragmentError: it is neither.
    """
    if isinstance(given, Fragment):
        return given.id
    if not isinstance(given, str):
        raise InvalidFragmentError(
            f"an object of class {type(given).__name__} is no fragment's id; write sha256:<64 hexadecimal digits>."
        )
    return FragmentId(given)


def user_of(given: WorkloadType | str | None) -> WorkloadType | None:
    """A workload type, also by its name.

    Raises:
        CacheConfigError: there is none of that name.
    """
    if given is None or isinstance(given, WorkloadType):
        return given
    with refusals():
        return one_of(WorkloadType, given)


def offset_of(given: object) -> int:
    """Where to begin to read, in bytes from the first.

    Raises:
        CacheConfigError: it is no whole number, or negative.
    """
    try:  # not `refusals`, which takes as long as the rest of a small read
        return count(given, what="offset")
    except ValueError as error:
        raise CacheConfigError(str(error)) from error


def wait_of(given: float, *, what: str) -> float:
    """Seconds that locks can count: three hundred years where somebody would wait for ever.

    Raises:
        CacheConfigError: it is no time.
    """
    with refusals():
        return min(seconds(given, what=what), TIMEOUT_MAX)
