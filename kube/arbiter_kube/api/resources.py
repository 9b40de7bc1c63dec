"""The kinds of objects that Arbiter talks to the API server about: where each is found and what it is read as."""

from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import quote

from arbiter_kube.api import GROUP, VERSION
from arbiter_kube.api.gpuallocation import GpuAllocation
from arbiter_kube.api.gpunode import GpuNode
from arbiter_kube.api.objects import Event, Lease, Namespace, Node, PartialObject, Pod
from arbiter_kube.api.qualitypolicy import QualityPolicy
from arbiter_kube.api.reports import ReportedNode

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource(Generic[T_co]):
    """One kind of object. `model` is the msgspec Struct or pydantic model that its objects are read as.

    With `metadata_only` the API server leaves out all but metadata: names of images are most of a real node.
    """

    model: type[T_co]
    group: str = ""
    version: str
    plural: str
    kind: str
    namespaced: bool
    metadata_only: bool = False

    @property
    def api_version(self) -> str:
        """As objects carry it: `v1`, `arbiter.infernum.io/v1alpha1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, *, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL's path; without a namespace every namespace's objects."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        within = ("namespaces", namespace) if self.namespaced and namespace else ()
        parts = (*within, self.plural, name, subresource)
        return root + "".join(f"/{quote(part, safe='')}" for part in parts if part)

    def accept(self, *, is_list: bool) -> str:
        """What the API server is asked to answer with."""
        if not self.metadata_only:
            return "application/json"
        return f"application/json;as=PartialObjectMetadata{'List' if is_list else ''};g=meta.k8s.io;v=v1"


PODS = Resource(model=Pod, version="v1", plural="pods", kind="Pod", namespaced=True)
NODES = Resource(model=Node, version="v1", plural="nodes", kind="Node", namespaced=False)
NAMESPACES = Resource(model=Namespace, version="v1", plural="namespaces", kind="Namespace", namespaced=False)
EVENTS = Resource(model=Event, version="v1", plural="events", kind="Event", namespaced=True)
LEASES = Resource(
    model=Lease, group="coordination.k8s.io", version="v1", plural="leases", kind="Lease", namespaced=True
)
GPU_ALLOCATIONS = Resource(
    model=GpuAllocation, group=GROUP, version=VERSION, plural="gpuallocations", kind="GpuAllocation", namespaced=True
)
QUALITY_POLICIES = Resource(
    model=QualityPolicy, group=GROUP, version=VERSION, plural="qualitypolicies", kind="QualityPolicy", namespaced=False
)
GPU_NODES = Resource(model=GpuNode, group=GROUP, version=VERSION, plural="gpunodes", kind="GpuNode", namespaced=False)

# The same objects, for those who follow all of them and read little of each.
NODE_METADATA = Resource(
    model=PartialObject, version="v1", plural="nodes", kind="Node", namespaced=False, metadata_only=True
)
NODE_REPORTS = Resource(
    model=ReportedNode, group=GROUP, version=VERSION, plural="gpunodes", kind="GpuNode", namespaced=False
)
