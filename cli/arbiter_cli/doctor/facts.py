"""What the doctor found, before anything is judged; and the form that a judgement has."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from arbiter_cli.doctor.kinds import PriorityClassObject, ReplicatedSet, WebhookConfiguration
from arbiter_cli.snapshot import Snapshot
from arbiter_kube.api.objects import Lease
from arbiter_kube.client import ServerVersion


def upgrade(namespace: str, *, effect: str = "puts back whatever is missing") -> str:
    """The command that mends parts of an installation that are gone or were changed."""
    return f"helm upgrade arbiter charts/arbiter -n {namespace} --reset-then-reuse-values   ({effect})"


class Verdict(StrEnum):
    """How a check came out; a warning is nothing that fails."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"
    SKIP = "skip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One judgement: `text` in one line, `details` below it, and what mends it."""

    name: str
    verdict: Verdict
    text: str
    details: tuple[str, ...] = ()
    remedies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unread:
    """Something that could not be read, and why."""

    reason: str


class CrdState(StrEnum):
    """What the cluster serves of a custom resource, beside this version's."""

    SAME = "Same"
    DIFFERENT = "Different"
    MISSING = "Missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Pods that were created without creating them: how long that took, in seconds, and what admission made of them.

    `plain` has nothing to do with Arbiter, `opted_in` has one of its annotations; `failure` is why nobody answered.
    """

    plain: float
    opted_in: float
    plain_untouched: bool
    opted_in_admitted: bool
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate that something of ours depends on."""

    of: str
    expires: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that checks look at; `namespace` is where Arbiter is installed, `at` when it was read.

    `own_version` is this command's; `missing_rights` are sentences.
    """

    at: datetime
    namespace: str
    own_version: str
    version: ServerVersion
    crds: Mapping[str, CrdState] | Unread
    lease: Lease | Unread | None
    deployments: tuple[ReplicatedSet, ...] | Unread
    filter_p99: float | Unread | None
    """Seconds within which 99 of 100 filter calls were answered since the extenders started; None before the first."""
    webhook: WebhookConfiguration | Unread | None
    trial: Trial | Unread
    certificates: tuple[Certificate, ...] | Unread
    admission_policies: frozenset[str] | Unread
    """Names of those that are bound."""
    priority_classes: tuple[PriorityClassObject, ...] | Unread
    missing_rights: tuple[str, ...] | Unread
    snapshot: Snapshot | Unread
