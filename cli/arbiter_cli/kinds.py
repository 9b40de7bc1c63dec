"""The kinds of objects that only people's commands read: who makes pods, and pods with the times of their writes."""

from datetime import datetime

import msgspec

from arbiter_kube.api.objects import Condition, ObjectMeta, Pod
from arbiter_kube.api.resources import Resource

OPERATOR = "arbiter-operator"
"""By this name the operator's writes, its Lease and its service account are known."""


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How these objects and their parts are read."""


class FieldsEntry(_Part, frozen=True, kw_only=True):
    """Who wrote fields of an object, and when last."""

    manager: str = ""
    subresource: str = ""
    time: datetime | None = None


class PodMeta(ObjectMeta, frozen=True, kw_only=True):
    """A pod's metadata, with the history of its writers."""

    managed_fields: tuple[FieldsEntry, ...] = ()


class TimedPod(Pod, frozen=True, kw_only=True):
    """A pod that tells when the operator wrote on it."""

    metadata: PodMeta = PodMeta()

    @property
    def decided_at(self) -> float | None:
        """When the operator last wrote its target: seconds since the epoch; None where it never did."""
        written = (
            entry.time.timestamp()
            for entry in self.metadata.managed_fields
            if entry.manager == OPERATOR and not entry.subresource and entry.time is not None
        )
        return max(written, default=None)


class MakerSpec(_Part, frozen=True, kw_only=True):
    """How many pods are wanted: the field's name depends on the kind."""

    replicas: int | None = None
    parallelism: int | None = None


class MakerStatus(_Part, frozen=True, kw_only=True):
    """What became of them."""

    conditions: tuple[Condition, ...] | None = None
    desired_number_scheduled: int | None = None
    succeeded: int = 0


class Maker(_Part, frozen=True, kw_only=True):
    """An object that makes pods: Deployment, ReplicaSet, StatefulSet, DaemonSet or Job."""

    metadata: ObjectMeta = ObjectMeta()
    spec: MakerSpec = MakerSpec()
    status: MakerStatus = MakerStatus()


def _maker(kind: str, *, group: str = "apps") -> Resource[Maker]:
    return Resource(model=Maker, group=group, version="v1", plural=f"{kind.lower()}s", kind=kind, namespaced=True)


TIMED_PODS = Resource(model=TimedPod, version="v1", plural="pods", kind="Pod", namespaced=True)
DEPLOYMENTS = _maker("Deployment")
REPLICA_SETS = _maker("ReplicaSet")
STATEFUL_SETS = _maker("StatefulSet")
DAEMON_SETS = _maker("DaemonSet")
JOBS = _maker("Job", group="batch")
