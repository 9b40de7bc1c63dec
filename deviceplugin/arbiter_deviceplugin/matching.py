"""Which pod does the kubelet speak of? Its requests name none, so the answer is found by what it lists.

Pure. Imports the core's identifiers, the API's reading of pods and the slices.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from arbiter.ids import NodeName
from arbiter_deviceplugin.slices import SliceId
from arbiter_kube.api.objects import ObjectKey
from arbiter_kube.api.pods import GpuPod


@dataclass(frozen=True, slots=True)
class ListedContainer:
    """A container in the kubelet's list with its slices of VRAM; the list knows no UIDs."""

    pod: ObjectKey
    name: str
    slices: frozenset[SliceId] = frozenset()


def without_slices(listed: Iterable[ListedContainer]) -> frozenset[ObjectKey]:
    """The listed pods that hold no VRAM: the one that is being admitted is among them, those to come are not.

    A pod may be listed twice, as its predecessor of the same name while that one still ends and as itself.
    """
    containers = tuple(listed)
    holding = {(container.pod, container.name) for container in containers if container.slices}
    empty = {(container.pod, container.name) for container in containers if not container.slices}
    holders = {pod for pod, _ in holding}
    listed_twice = {pod for pod, _ in empty & holding}
    return frozenset({pod for pod, _ in empty} - holders | listed_twice)


def being_admitted(
    listed: Iterable[ListedContainer], pods: Mapping[ObjectKey, GpuPod], *, size: int, node: NodeName
) -> GpuPod | None:
    """The pod for which the kubelet asks for `size` slices, or None where that cannot be told.

    Among several that would do, which no real kubelet was ever seen to show, the one bound last: those before it have
    been admitted, or have failed.
    """
    candidates = [pods[key] for key in without_slices(listed) if key in pods]
    fitting = [pod for pod in candidates if pod.slices == size and pod.node == node and not pod.finished]
    return max(fitting, key=lambda pod: (pod.bound_at or pod.created_at, pod.uid), default=None)


def holder_of(listed: Iterable[ListedContainer], slices: frozenset[SliceId]) -> ListedContainer | None:
    """The container that the kubelet gave exactly these slices, or None."""
    return next((container for container in listed if container.slices == slices), None)
