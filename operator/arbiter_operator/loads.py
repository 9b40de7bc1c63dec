"""What all pods of each node ask for of CPU and memory, pods without GPU memory included. Fed with events; no I/O."""

from collections import defaultdict
from collections.abc import Mapping

from arbiter.ids import NodeName, PodUid
from arbiter_kube.api.objects import Pod
from arbiter_kube.api.scheduling import Requests, requests


class Loads:
    """By node. Pods that are over ask for nothing, as kube-scheduler sees it."""

    def __init__(self) -> None:
        self._pods: defaultdict[NodeName, dict[PodUid, Requests]] = defaultdict(dict)
        self._sums: defaultdict[NodeName, Requests] = defaultdict(Requests)

    def applied(self, pod: Pod) -> None:
        """A pod is new or changed."""
        self.deleted(pod)
        if pod.node is not None and not pod.is_finished:
            asked = self._pods[pod.node][pod.uid] = requests(pod)
            self._sums[pod.node] += asked

    def deleted(self, pod: Pod) -> None:
        """A pod is gone."""
        if pod.node is None or (asked := self._pods.get(pod.node, {}).pop(pod.uid, None)) is None:
            return
        self._sums[pod.node] -= asked
        if not self._pods[pod.node]:
            del self._pods[pod.node], self._sums[pod.node]

    def on(self, node: NodeName) -> Mapping[PodUid, Requests]:
        """What each pod of the node asks for."""
        return self._pods.get(node, {})

    def total(self, node: NodeName) -> Requests:
        """What they ask for together."""
        return self._sums.get(node, Requests())
