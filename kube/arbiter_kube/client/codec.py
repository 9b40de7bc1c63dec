"""Objects to and from JSON: msgspec for what comes by the thousand, pydantic for Arbiter's own resources."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import pydantic

from arbiter_kube.api.reading import UNREADABLE
from arbiter_kube.client.errors import UnreadableError

T = TypeVar("T")

_readers: dict[type[Any], Callable[[bytes], Any]] = {}  # building one costs more than using it


def decode(text: bytes, model: type[T]) -> T:
    """JSON read as `model`, a msgspec Struct or pydantic model.

    Raises:
        UnreadableError: it is none; the text names the first thing that is wrong.
    """
    try:
        value: T = _reader(model)(text)
    except UNREADABLE as error:
        raise UnreadableError(f"not a {model.__name__}: {error}") from error
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UnreadableError(f"not a {model.__name__}: {where}: {first['msg']}") from error
    return value


def _reader(model: type[Any]) -> Callable[[bytes], Any]:
    if model not in _readers:
        is_pydantic = issubclass(model, pydantic.BaseModel)
        _readers[model] = _pydantic_reader(model) if is_pydantic else msgspec.json.Decoder(model).decode
    return _readers[model]


def _pydantic_reader(model: type[pydantic.BaseModel]) -> Callable[[bytes], Any]:
    # The items of a list and of a watch are msgspec.Raw, which pydantic does not take for bytes.
    return lambda text: model.model_validate_json(bytes(text))


def encode(body: object) -> bytes:
    """JSON of plain data, Structs and pydantic models, mixed as they come."""
    return msgspec.json.encode(body, enc_hook=_plain)


def manifest(body: object, *, api_version: str, kind: str) -> bytes:
    """JSON of a whole object, with the two fields that the API server needs and models do not carry."""
    return encode({**msgspec.to_builtins(body, enc_hook=_plain), "apiVersion": api_version, "kind": kind})


def _plain(value: object) -> Any:  # any JSON value
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    raise NotImplementedError(f"{type(value).__name__} has no JSON form")
