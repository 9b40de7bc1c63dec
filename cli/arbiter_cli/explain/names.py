"""What people may ask about: KIND/NAME as kubectl knows it, and gpu/NODE/INDEX. Pure."""

from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum

from arbiter_cli.errors import InputError


class Kind(StrEnum):
    """Kinds of objects that can be explained."""

    POD = "pod"
    ALLOCATION = "gpuallocation"
    DEPLOYMENT = "deployment"
    REPLICA_SET = "replicaset"
    STATEFUL_SET = "statefulset"
    DAEMON_SET = "daemonset"
    JOB = "job"
    NODE = "node"
    GPU = "gpu"


_SHORT = {
    "po": Kind.POD,
    "gpua": Kind.ALLOCATION,
    "deploy": Kind.DEPLOYMENT,
    "rs": Kind.REPLICA_SET,
    "sts": Kind.STATEFUL_SET,
    "ds": Kind.DAEMON_SET,
    "no": Kind.NODE,
    "gpun": Kind.NODE,
    "gpunode": Kind.NODE,
    "gpunodes": Kind.NODE,
}

WORDS = {**{kind.value: kind for kind in Kind}, **{f"{kind.value}s": kind for kind in Kind}, **_SHORT}
"""Every word for a kind."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is asked about; `index` is a GPU's on its node, which is then the `name`."""

    kind: Kind
    name: str
    index: int | None = None

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}" if self.index is None else f"{self.kind}/{self.name}/{self.index}"


def parse_subject(words: list[str]) -> Subject:
    """From ``pod/chat-0`` or ``pod chat-0``; resources may carry their group, as ``deployments.apps/chat``.

    Raises:
        InputError: it is none.
    """
    parts = "/".join(words).split("/")
    kind = WORDS.get(parts[0].partition(".")[0].lower())
    if kind is None:
        raise InputError(f'"{parts[0]}" cannot be explained; write one of {", ".join(Kind)}, then / and a name.')
    if kind is Kind.GPU:
        if len(parts) != 3 or not parts[2].isascii() or not parts[2].isdigit():
            raise InputError(f'"{"/".join(parts)}" is no GPU; write its node and index, such as gpu/gpu-1/0.')
        return Subject(kind, parts[1], int(parts[2]))
    if len(parts) != 2 or not parts[1]:
        raise InputError(f'"{"/".join(parts)}" names no {kind}; write for example {kind}/chat.')
    return Subject(kind, parts[1])


def missing(subject: Subject, names: list[str], *, where: str) -> InputError:
    """That there is no such object, and the nearest name that there is."""
    near = get_close_matches(subject.name, names, n=1)
    hint = f'; the nearest name is "{near[0]}"' if near else ""
    return InputError(f"there is no {subject}{where}{hint}.")
