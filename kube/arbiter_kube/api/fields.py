"""Field types and base classes that the custom resources' models share.

Their JSON schema extras become the CRDs' validation, so that a mistake is refused where it was made.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from arbiter.units import parse_bytes

Validation = dict[str, str]


def rule(expression: str, message: str, *, field_path: str | None = None) -> Validation:
    """A CEL rule with the sentence that a person reads; a message in double quotes' place may be CEL itself.

    `message` starting with ``=`` is a CEL expression that makes the sentence.
    """
    key, text = ("messageExpression", message[1:]) if message.startswith("=") else ("message", message)
    return {"rule": expression, key: text} | ({"fieldPath": field_path} if field_path else {})


def validations(*rules: Validation) -> dict[str, Any]:
    """JSON schema extras that hold CEL rules."""
    return {"x-kubernetes-validations": list(rules)}


class ApiModel(BaseModel):
    """Camel-case names outside, unknown fields ignored: a newer writer must not break an older reader.

    The docstring of a field becomes its description in the CRD: `kubectl explain` shows it.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )


def _quantity(value: object) -> str:
    text = str(value)
    parse_bytes(text)
    return text


# What the API server takes and `parse_bytes` does not would be an object that nobody can read: signs, nano and micro,
# exponents of three digits, more than any memory.
_READABLE = (
    "isQuantity(string(self)) && string(self).matches('^[0-9.]+([eE][+-]?[0-9]{1,2}|[kKMGTPE]?i?|m)$')"
    " && quantity(string(self)).compareTo(quantity('1')) >= 0"
    " && quantity(string(self)).isLessThan(quantity('4Ei'))"
)

Quantity = Annotated[
    str,
    BeforeValidator(_quantity),
    Field(
        max_length=24,
        json_schema_extra={
            "type": None,
            "x-kubernetes-int-or-string": True,
            **validations(
                rule(
                    _READABLE,
                    '="\'" + string(self) + "\' is no size: write a number with a unit, such as 10Gi or 1843Mi"',
                )
            ),
        },
    ),
]
"""A size in bytes as Kubernetes writes it: ``10Gi``, or a whole number."""

Duration = Annotated[
    str,
    Field(
        max_length=16,
        pattern=r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$",
        json_schema_extra={"format": "duration"},
    ),
]
"""A span of time as Go writes it: ``30s``, ``2m30s``."""

Quality = Annotated[float, Field(gt=0, le=1)]

PriorityName = Literal["Background", "Low", "Normal", "High", "Critical", "UserFacing"]


class Condition(ApiModel):
    """metav1.Condition."""

    type: Annotated[str, Field(max_length=316)]
    """What it is about."""
    status: Literal["True", "False", "Unknown"]
    """Whether it is so."""
    reason: Annotated[str, Field(max_length=1024)]
    """Why, in one word, for machines."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """Why, in one sentence, for people."""
    last_transition_time: datetime
    """Since when the status is what it is."""
    observed_generation: int | None = None
    """The generation of the spec that it was said of."""


Conditions = Annotated[
    list[Condition],
    Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
]


class OwnerReference(ApiModel):
    """The object that another is deleted with."""

    kind: str = ""
    uid: str = ""


class ObjectMeta(ApiModel):
    """What Arbiter reads of an object's metadata."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    owner_references: list[OwnerReference] = Field(default_factory=list)
