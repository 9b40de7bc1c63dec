"""What kube-scheduler sends to an extender and expects of it (k8s.io/kube-scheduler/extender/v1).

The Go structs have no JSON tags, so the keys are Go's field names. Imports msgspec and the API models.
"""

from collections.abc import Mapping

import msgspec

from arbiter.ids import NodeName, PodUid
from arbiter_kube.api.objects import ObjectKey, Pod


class ExtenderArgs(msgspec.Struct, frozen=True, rename="pascal"):
    """Of filter and prioritize. `node_names` are there when the extender is configured as nodeCacheCapable."""

    pod: Pod
    node_names: list[NodeName] | None = None


class ExtenderFilterResult(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """The nodes that passed, and texts for those that did not."""

    node_names: tuple[NodeName, ...]
    failed_nodes: Mapping[NodeName, str] = {}
    failed_and_unresolvable_nodes: Mapping[NodeName, str] = {}


MAX_SCORE = 10


class HostPriority(msgspec.Struct, frozen=True, rename="pascal"):
    """A node's score, 0 to 10."""

    host: NodeName
    score: int


class ExtenderBindingArgs(msgspec.Struct, frozen=True, kw_only=True):
    """Which pod to bind to which node."""

    name: str = msgspec.field(name="PodName")
    namespace: str = msgspec.field(name="PodNamespace")
    uid: PodUid = msgspec.field(name="PodUID")
    node: NodeName = msgspec.field(name="Node")

    @property
    def key(self) -> ObjectKey:
        """The pod's namespace and name."""
        return ObjectKey(self.namespace, self.name)


class ExtenderBindingResult(msgspec.Struct, frozen=True, rename="pascal"):
    """Empty when the pod is bound, else why not."""

    error: str = ""
