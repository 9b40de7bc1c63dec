"""What Arbiter reads of Kubernetes' own objects: typed, small and quick to decode, since pods arrive by the thousand.

Fields that nobody here reads are left out, unknown ones are ignored. Objects are immutable trees (never cyclic, which
is why the garbage collector need not track them). Imports msgspec and the core's identifiers and units.
"""

from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, NamedTuple

import msgspec

from arbiter.ids import NodeName, PodUid
from arbiter.units import QuantityError, Slices, parse_bytes
from arbiter_kube.api import VRAM_RESOURCE

Time = Annotated[datetime, msgspec.Meta(tz=True)]
"""Kubernetes writes every time with its zone; one without is no moment."""


class ObjectKey(NamedTuple):
    """Where an object is found: `namespace` is empty for cluster-wide kinds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class _Object(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel", omit_defaults=True):
    """How every object and part of one is read and written."""


class OwnerReference(_Object, frozen=True, kw_only=True):
    """The object that made this one."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class ObjectMeta(_Object, frozen=True, kw_only=True):
    """Names, versions and marks of any object."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    annotations: dict[str, str] = {}
    labels: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    deletion_grace_period_seconds: int | None = None

    @property
    def key(self) -> ObjectKey:
        """Namespace and name."""
        return ObjectKey(self.namespace, self.name)


class PartialObject(_Object, frozen=True, kw_only=True):
    """An object of any kind, by its metadata alone."""

    metadata: ObjectMeta = ObjectMeta()


class Condition(_Object, frozen=True, kw_only=True):
    """One condition of an object's status; `status` is True, False or Unknown."""

    type: str = ""
    status: str = "Unknown"
    reason: str = ""
    message: str = ""
    last_transition_time: Time | None = None


class EnvVar(_Object, frozen=True, kw_only=True):
    """An environment variable; `value` is empty where it comes from elsewhere."""

    name: str = ""
    value: str = ""


class ResourceRequirements(_Object, frozen=True, kw_only=True):
    """Quantities as Kubernetes writes them, by resource name."""

    limits: dict[str, str] = {}
    requests: dict[str, str] = {}

    def __post_init__(self) -> None:
        """Refuses slices that cannot be counted, so that whoever reads the object is told, and nobody later."""
        _ = self.slices

    @property
    def slices(self) -> Slices:
        """Units of GPU memory that the kubelet reserves; 0 where none are asked for."""
        asked = self.limits.get(VRAM_RESOURCE)
        return Slices(0) if asked is None else _count(asked)


@lru_cache(maxsize=256)
def _count(text: str) -> Slices:
    # The API server admits whole numbers only, but keeps how they were written: 1000 is 1k, and 1Ki is one too.
    try:
        return Slices(parse_bytes(text))
    except QuantityError as error:
        raise QuantityError(f'{VRAM_RESOURCE} "{text}" is no count of units; write a whole number such as 4') from error


class Container(_Object, frozen=True, kw_only=True):
    """A container as its pod's spec describes it; `restart_policy` Always makes an init container a sidecar."""

    name: str = ""
    resources: ResourceRequirements = ResourceRequirements()
    restart_policy: str | None = None
    env: tuple[EnvVar, ...] = ()


class Toleration(_Object, frozen=True, kw_only=True):
    """Lets a pod onto nodes with a taint; an empty key or effect stands for all."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


class NodeSelectorRequirement(_Object, frozen=True, kw_only=True):
    """What a label or field of a node must be; `operator` is In, NotIn, Exists, DoesNotExist, Gt or Lt."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()


class NodeSelectorTerm(_Object, frozen=True, kw_only=True):
    """All of these must be met."""

    match_expressions: tuple[NodeSelectorRequirement, ...] = ()
    match_fields: tuple[NodeSelectorRequirement, ...] = ()


class NodeSelector(_Object, frozen=True, kw_only=True):
    """One of these must be met."""

    node_selector_terms: tuple[NodeSelectorTerm, ...] = ()


class NodeAffinity(_Object, frozen=True, kw_only=True):
    """Which nodes a pod must run on."""

    required: NodeSelector | None = msgspec.field(default=None, name="requiredDuringSchedulingIgnoredDuringExecution")


class Affinity(_Object, frozen=True, kw_only=True):
    """Which nodes a pod is drawn to; attraction between pods is not read."""

    node_affinity: NodeAffinity | None = None


class PodSpec(_Object, frozen=True, kw_only=True):
    """What was asked for."""

    node_name: NodeName | None = None
    scheduler_name: str = ""
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    affinity: Affinity | None = None
    overhead: dict[str, str] = {}
    priority: int | None = None
    priority_class_name: str = ""
    termination_grace_period_seconds: int | None = None


class ContainerStateRunning(_Object, frozen=True, kw_only=True):
    """Since when it runs."""

    started_at: Time | None = None


class ContainerStateTerminated(_Object, frozen=True, kw_only=True):
    """How it ended."""

    exit_code: int = 0
    reason: str = ""
    message: str = ""
    started_at: Time | None = None
    finished_at: Time | None = None


class ContainerStateWaiting(_Object, frozen=True, kw_only=True):
    """Why it does not run yet."""

    reason: str = ""
    message: str = ""


class ContainerState(_Object, frozen=True, kw_only=True):
    """At most one of the three is set."""

    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None
    waiting: ContainerStateWaiting | None = None


class ContainerStatus(_Object, frozen=True, kw_only=True):
    """A container as the kubelet reports it; `container_id` is `<runtime>://<id>`, empty until it was created."""

    name: str = ""
    container_id: str = msgspec.field(default="", name="containerID")
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()
    restart_count: int = 0
    ready: bool = False
    started: bool | None = None


class PodPhase(StrEnum):
    """Where a pod is in its life; Succeeded and Failed are final."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    UNKNOWN = "Unknown"

    @classmethod
    def _missing_(cls, value: object) -> "PodPhase":  # noqa: ARG003 - the signature is enum's
        return cls.UNKNOWN


class PodStatus(_Object, frozen=True, kw_only=True):
    """What became of the pod."""

    phase: PodPhase = PodPhase.PENDING
    reason: str = ""
    message: str = ""
    nominated_node_name: NodeName | None = None
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    start_time: Time | None = None


class Pod(_Object, frozen=True, kw_only=True):
    """A pod."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def key(self) -> ObjectKey:
        """Namespace and name."""
        return self.metadata.key

    @property
    def uid(self) -> PodUid:
        """The identity that survives no re-creation."""
        return PodUid(self.metadata.uid)

    @property
    def local_uid(self) -> PodUid:
        """The UID by which its kubelet and its control groups know it.

        A static pod has one of the kubelet's own, which its mirror bears as an annotation (the kubelet runs no other
        pod that has it).
        """
        return PodUid(self.metadata.annotations.get("kubernetes.io/config.mirror") or self.metadata.uid)

    @property
    def node(self) -> NodeName | None:
        """The node that it is bound to; None while it waits for one."""
        return self.spec.node_name or None

    @property
    def is_finished(self) -> bool:
        """Whether it reached a final phase: the scheduler counts its resources as free from then on."""
        return self.status.phase in (PodPhase.SUCCEEDED, PodPhase.FAILED)

    @property
    def is_terminating(self) -> bool:
        """Whether somebody deleted it; its containers may still run."""
        return self.metadata.deletion_timestamp is not None

    @property
    def is_gated(self) -> bool:
        """Whether somebody, a queue perhaps, holds it back from every scheduler."""
        return any(one.type == "PodScheduled" and one.reason == "SchedulingGated" for one in self.status.conditions)

    def container(self, name: str) -> Container | None:
        """The container of that name, init containers left out."""
        return next((container for container in self.spec.containers if container.name == name), None)

    def container_status(self, name: str) -> ContainerStatus | None:
        """What the kubelet says of that container; None before it says anything."""
        return next((status for status in self.status.container_statuses if status.name == name), None)


class Taint(_Object, frozen=True, kw_only=True):
    """Keeps pods off a node."""

    key: str = ""
    value: str = ""
    effect: str = ""


class NodeSpec(_Object, frozen=True, kw_only=True):
    """What keeps pods off the node."""

    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()


class NodeStatus(_Object, frozen=True, kw_only=True):
    """Quantities by resource name, and conditions."""

    allocatable: dict[str, str] = {}
    capacity: dict[str, str] = {}
    conditions: tuple[Condition, ...] = ()


class Node(_Object, frozen=True, kw_only=True):
    """A node."""

    metadata: ObjectMeta = ObjectMeta()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def name(self) -> NodeName:
        """Its name, by which pods are bound to it."""
        return NodeName(self.metadata.name)

    @property
    def is_ready(self) -> bool:
        """Whether its kubelet says so and was heard lately."""
        return any(condition.type == "Ready" and condition.status == "True" for condition in self.status.conditions)


class Namespace(_Object, frozen=True, kw_only=True):
    """A namespace, for its labels."""

    metadata: ObjectMeta = ObjectMeta()


class ObjectReference(_Object, frozen=True, kw_only=True):
    """Which object something is about."""

    api_version: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


class EventSource(_Object, frozen=True, kw_only=True):
    """Who reports an event."""

    component: str = ""


class Event(_Object, frozen=True, kw_only=True):
    """core/v1 Event: something that happened to an object, `count` times. `type` is Normal or Warning."""

    metadata: ObjectMeta = ObjectMeta()
    involved_object: ObjectReference = ObjectReference()
    type: str = ""
    reason: str = ""
    message: str = ""
    count: int = 0
    first_timestamp: Time | None = None
    last_timestamp: Time | None = None
    source: EventSource = EventSource()
    reporting_component: str = ""
    reporting_instance: str = ""


class LeaseSpec(_Object, frozen=True, kw_only=True):
    """Who holds the lease and until when."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: Time | None = None
    renew_time: Time | None = None
    lease_transitions: int = 0


class Lease(_Object, frozen=True, kw_only=True):
    """coordination.k8s.io Lease."""

    metadata: ObjectMeta = ObjectMeta()
    spec: LeaseSpec = LeaseSpec()
