"""What the extender knows: pods, nodes, what nodes report, policies, and its own promises. It is fed events.

Plain state without I/O and without a clock. What a node's GPUs have room for is worked out when somebody asks and kept
until something about that node changes. Imports the core, the API models and `occupancy`.
"""

import heapq
import logging
from collections import defaultdict
from collections.abc import Mapping

from arbiter.ids import NodeName, PodUid
from arbiter.policy import Policy
from arbiter_extender.occupancy import Hold, NodeOccupancy, Placement, drifted, occupancy
from arbiter_kube.api.gpunode import GpuNode
from arbiter_kube.api.objects import Node
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.api.qualitypolicy import QualityPolicy, policy_in_force

_log = logging.getLogger(__name__)

_NO_POLICY = Policy()


class Ledger:
    """Every claim on every GPU. Events may come in any order, twice, or again after a gap: the last word counts.

    `unit` is the bytes of a slice, where a node does not say otherwise; times are seconds since the epoch.
    """

    def __init__(self, *, unit: int) -> None:
        self.unit = unit
        self.drift_total = 0
        """How many times the kubelet was found to have given a pod other GPUs than it was bound with."""
        self._pods: dict[PodUid, GpuPod] = {}
        self._on_node: dict[NodeName, dict[PodUid, GpuPod]] = defaultdict(dict)
        self._holds: dict[PodUid, Hold] = {}
        self._held_on: dict[NodeName, dict[PodUid, Hold]] = defaultdict(dict)
        self._reports: dict[NodeName, GpuNode] = {}
        self._labels: dict[NodeName, Mapping[str, str]] = {}
        self._policies: dict[str, QualityPolicy] = {}
        self._drifted: dict[NodeName, frozenset[PodUid]] = {}
        self._deadlines: list[tuple[float, NodeName, PodUid]] = []
        self._occupancies: dict[NodeName, NodeOccupancy] = {}

    # Events

    def pod_applied(self, pod: GpuPod) -> None:
        """A pod is new or changed. Once it is bound or finished, what was held for it ends."""
        self._forget(pod.uid)
        self._pods[pod.uid] = pod
        where = _node_of(pod)
        if where is not None:
            self._on_node[where][pod.uid] = pod
            self._changed(where)
        if pod.nomination is not None and pod.node is None:
            self._wait_for(pod.nomination.until.timestamp(), node=pod.nomination.node, uid=pod.uid)
        if pod.node is not None:
            self._note_drift(pod.node)
        if pod.node is not None or pod.finished:
            self.release(pod.uid)

    def pod_deleted(self, uid: PodUid) -> None:
        """A pod is gone, and what was held for it with it."""
        self._forget(uid)
        self.release(uid)

    def gpu_node_applied(self, report: GpuNode) -> None:
        """A node's agent says something new."""
        name = NodeName(report.metadata.name)
        self._reports[name] = report
        self._note_drift(name)
        self._changed(name)

    def gpu_node_deleted(self, name: NodeName) -> None:
        """A node's GPUs are gone."""
        self._reports.pop(name, None)
        self._drifted.pop(name, None)
        self._changed(name)

    def node_applied(self, node: Node) -> None:
        """A node is new or changed; its labels choose its policy."""
        if self._labels.get(node.name) != node.metadata.labels:
            self._labels[node.name] = node.metadata.labels
            self._changed(node.name)

    def node_deleted(self, name: NodeName) -> None:
        """A node is gone."""
        if self._labels.pop(name, None) is not None:
            self._changed(name)

    def policy_applied(self, policy: QualityPolicy) -> None:
        """A policy is new or changed."""
        self._policies[policy.metadata.name] = policy
        self._occupancies.clear()

    def policy_deleted(self, name: str) -> None:
        """A policy is gone."""
        self._policies.pop(name, None)
        self._occupancies.clear()

    # Promises of this process

    def hold(self, pod: GpuPod, placement: Placement, *, until: float) -> None:
        """Keeps room for a pod until it is bound, or until the time is over."""
        self._promise(Hold(pod=pod, placement=placement, until=until))
        self._wait_for(until, node=placement.node, uid=pod.uid)

    def assume(self, pod: GpuPod, placement: Placement) -> None:
        """Keeps room for a pod whose bind is in flight: only the API server's word ends that."""
        self._promise(Hold(pod=pod, placement=placement, until=None))

    def release(self, uid: PodUid) -> None:
        """Nothing is held for the pod any more."""
        hold = self._holds.pop(uid, None)
        if hold is not None:
            del self._held_on[hold.placement.node][uid]
            self._changed(hold.placement.node)

    def expire(self, now: float) -> None:
        """Ends what has run out. To be called before the ledger is asked."""
        while self._deadlines and self._deadlines[0][0] <= now:
            _, node, uid = heapq.heappop(self._deadlines)
            hold = self._holds.get(uid)
            if hold is not None and hold.is_over(now):
                self.release(uid)
            self._changed(node)

    # Questions

    def pod(self, uid: PodUid) -> GpuPod | None:
        """The pod as it was last seen, here or in a scheduler's request."""
        hold = self._holds.get(uid)
        return self._pods.get(uid) or (hold.pod if hold else None)

    def soft_hold(self, uid: PodUid) -> Placement | None:
        """What is held for a pod whose bind has not begun."""
        hold = self._holds.get(uid)
        return hold.placement if hold is not None and not hold.is_assumed else None

    def assigned(self, uid: PodUid) -> Placement | None:
        """Where a pod is bound, or being bound."""
        pod, hold = self._pods.get(uid), self._holds.get(uid)
        if pod is not None and pod.node is not None:
            return Placement(node=pod.node, gpus=pod.gpus)
        return hold.placement if hold is not None and hold.is_assumed else None

    def is_assumed(self, uid: PodUid) -> bool:
        """Whether a bind is in flight, or was answered and not yet shown by the watch."""
        hold = self._holds.get(uid)
        return hold is not None and hold.is_assumed

    def node(self, name: NodeName, *, now: float, besides: PodUid | None = None) -> NodeOccupancy | None:
        """What there is on a node, the claims of `besides` left out; None while its agent has not reported."""
        report = self._reports.get(name)
        if report is None:
            return None
        if besides is not None and (besides in self._on_node[name] or besides in self._held_on[name]):
            return self._occupancy(name, report, now=now, besides=besides)
        known = self._occupancies.get(name)
        if known is None:
            known = self._occupancies[name] = self._occupancy(name, report, now=now, besides=None)
        return known

    def nodes(self) -> tuple[NodeName, ...]:
        """Every node whose agent has reported."""
        return tuple(sorted(self._reports))

    def _occupancy(self, name: NodeName, report: GpuNode, *, now: float, besides: PodUid | None) -> NodeOccupancy:
        return occupancy(
            name,
            report.status,
            pods=[pod for uid, pod in self._on_node[name].items() if uid != besides],
            holds=[hold for uid, hold in self._held_on[name].items() if uid != besides],
            policy=self._policy(name),
            unit=self.unit,
            now=now,
        )

    def _policy(self, name: NodeName) -> Policy:
        chosen = policy_in_force(self._policies.values(), self._labels.get(name, {}))
        return chosen.spec.policy() if chosen is not None else _NO_POLICY

    def _promise(self, hold: Hold) -> None:
        self.release(hold.pod.uid)
        self._holds[hold.pod.uid] = hold
        self._held_on[hold.placement.node][hold.pod.uid] = hold
        self._changed(hold.placement.node)

    def _forget(self, uid: PodUid) -> None:
        pod = self._pods.pop(uid, None)
        where = _node_of(pod) if pod is not None else None
        if where is not None:
            del self._on_node[where][uid]
            self._changed(where)

    def _changed(self, name: NodeName) -> None:
        self._occupancies.pop(name, None)

    def _wait_for(self, when: float, *, node: NodeName, uid: PodUid) -> None:
        heapq.heappush(self._deadlines, (when, node, uid))

    def _note_drift(self, name: NodeName) -> None:
        report = self._reports.get(name)
        if report is None:
            return
        now, before = drifted(self._on_node[name].values(), report.status), self._drifted.get(name, frozenset())
        self._drifted[name] = now
        self.drift_total += len(now - before)
        for uid in now - before:
            _log.warning("kubelet gave other GPUs than bound pod=%s node=%s", self._pods[uid].key, name)


def _node_of(pod: GpuPod) -> NodeName | None:
    """The node where it takes or is kept room."""
    return pod.node or (pod.nomination.node if pod.nomination else None)
