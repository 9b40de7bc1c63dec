"""What the extender knows: pods, nodes, what nodes report, policies, and its own promises. It is fed events.

Plain state without I/O and without a clock. An event costs the work of the one node that it is about: that node's room
is read anew and put into the index that placement asks. Imports the core, the API models, `promises` and `rooms`.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from arbiter.ids import NodeName, NodeUid, PodUid
from arbiter.placement import Placement, Strategy
from arbiter.policy import Policy
from arbiter_extender.promises import Assignment, Deadlines, Hold
from arbiter_extender.rooms import Rooms
from arbiter_kube.api.objects import Pod
from arbiter_kube.api.occupancy import NodeOccupancy, Occupancy, Promise, Standing, drifted
from arbiter_kube.api.pods import GpuPod, gpu_pod
from arbiter_kube.api.qualitypolicy import QualityPolicy, policy_in_force
from arbiter_kube.api.reports import ANY_NODE, NodeReport, counts_for

_log = logging.getLogger(__name__)

_NO_POLICY = Policy()


class Hardware(NamedTuple):
    """A node's GPUs, healthy or not: what each could take if it were empty, in bytes of whole slices, largest first."""

    unit: int
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, report: NodeReport) -> "Hardware | None":
        """What a report says of it; None where the agent has not said anything yet."""
        unit = report.unit
        if not unit:
            return None
        return cls(unit, tuple(sorted((gpu.usable // unit * unit for gpu in report.gpus), reverse=True)))


@dataclass(slots=True)
class _Node:
    """What is known of one node; `told_of` is the one that `told` is about."""

    uid: NodeUid = ANY_NODE
    told: NodeReport | None = None
    told_of: NodeUid = ANY_NODE
    hardware: Hardware | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    pods: dict[PodUid, GpuPod] = field(default_factory=dict)
    nominated: dict[PodUid, GpuPod] = field(default_factory=dict)
    held: dict[PodUid, Hold] = field(default_factory=dict)
    drifted: frozenset[PodUid] = frozenset()
    policy: Policy | None = None
    occupancy: Occupancy | None = None

    @property
    def report(self) -> NodeReport | None:
        """What its agent says; nothing where that was of a former node of its name."""
        return self.told if counts_for(self.uid, told_of=self.told_of) else None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to remember."""
        return self.told is None and not (self.uid or self.labels or self.pods or self.nominated or self.held)


def claimant(pod: Pod, *, unit: int) -> GpuPod | None:
    """What claims depend on, the same from a watch and from a scheduler; None where the pod asks for no VRAM.

    What else changes about a pod, such as its target, is no event for the ledger. `unit` is the bytes of a slice.
    """
    seen = gpu_pod(pod, unit=unit)
    return None if seen is None else replace(seen, grant=None, bound_at=None, ready=False, scheduler_name="")


class Ledger:
    """Every claim on every GPU. Events may come in any order, twice, or again after a gap: the last word counts.

    `unit` is the bytes of a slice.
    """

    def __init__(self, *, unit: int, strategy: Strategy = Strategy.PACKED) -> None:
        self.unit = unit
        self.drift_total = 0
        """How many times the kubelet was found to have given a pod other GPUs than it was bound with."""
        self._pods: dict[PodUid, GpuPod] = {}
        self._nodes: defaultdict[NodeName, _Node] = defaultdict(_Node)
        self._holds: dict[PodUid, Hold] = {}
        self._policies: dict[str, QualityPolicy] = {}
        self._policy_of: dict[str, Policy] = {}
        self._holds_end = Deadlines()
        self._nominations_end = Deadlines()
        self._rooms = Rooms(self.occupancy, strategy=strategy)

    # Events

    def pod_applied(self, pod: GpuPod) -> None:
        """A pod is new or changed. Once it is bound or finished, what was held for it ends."""
        before = self._pods.get(pod.uid)
        if before == pod:
            return
        self._forget(before)
        self._pods[pod.uid] = pod
        if pod.node is not None:
            self._nodes[pod.node].pods[pod.uid] = pod
            self._changed(pod.node)
            self._note_drift(pod.node)
        elif pod.nomination is not None and not (pod.finished or pod.terminating):
            self._nodes[pod.nomination.node].nominated[pod.uid] = pod
            self._changed(pod.nomination.node)
            self._nominations_end.add(pod.nomination.until.timestamp(), pod.uid)
        if pod.node is not None or pod.finished:
            self.release(pod.uid)

    def pod_deleted(self, uid: PodUid) -> None:
        """A pod is gone, and what was held for it with it."""
        self._forget(self._pods.pop(uid, None))
        self.release(uid)

    def report_applied(self, name: NodeName, report: NodeReport, *, of: NodeUid = ANY_NODE) -> None:
        """A node's agent says something new; `of` is the node that it was on."""
        node = self._nodes[name]
        if (node.told, node.told_of) == (report, of):
            return
        node.told, node.told_of, node.hardware = report, of, Hardware.of(report)
        self._note_drift(name)
        self._changed(name)

    def report_deleted(self, name: NodeName) -> None:
        """A node's GPUs are gone."""
        node = self._nodes[name]
        node.told, node.told_of, node.hardware, node.drifted = None, ANY_NODE, None, frozenset()
        self._changed(name)

    def node_applied(self, name: NodeName, labels: Mapping[str, str], *, uid: NodeUid = ANY_NODE) -> None:
        """A node is new or changed; its labels choose its policy."""
        known = self._nodes.get(name) or _Node()
        if (known.labels, known.uid) != (labels, uid):
            node = self._nodes[name]
            node.labels, node.uid, node.policy = labels, uid, None
            self._note_drift(name)
            self._changed(name)

    def node_deleted(self, name: NodeName) -> None:
        """A node is gone."""
        self.node_applied(name, {})

    def policy_applied(self, policy: QualityPolicy) -> None:
        """A policy is new or changed."""
        before = self._policies.get(policy.metadata.name)
        self._policies[policy.metadata.name] = policy
        # Its status counts the nodes that follow it, which no room depends on.
        if before is None or before.spec != policy.spec:
            self._policy_of[policy.metadata.name] = policy.spec.policy()
            self._policies_changed()

    def policy_deleted(self, name: str) -> None:
        """A policy is gone."""
        if self._policies.pop(name, None) is not None:
            del self._policy_of[name]
            self._policies_changed()

    # Promises of this process

    def hold(self, pod: GpuPod, assignment: Assignment, *, until: float) -> None:
        """Keeps room for a pod until it is bound, or until the time is over, by the caller's own clock."""
        self._promise(Hold(pod=pod, assignment=assignment, until=until))
        self._holds_end.add(until, pod.uid)

    def assume(self, pod: GpuPod, assignment: Assignment) -> None:
        """Keeps room for a pod whose bind is in flight: only the API server's word ends that."""
        self._promise(Hold(pod=pod, assignment=assignment, until=None))

    def release(self, uid: PodUid) -> None:
        """Nothing is held for the pod any more."""
        hold = self._holds.pop(uid, None)
        if hold is not None:
            del self._nodes[hold.assignment.node].held[uid]
            self._changed(hold.assignment.node)
            self._nomination_changed(uid)

    def expire(self, now: float, *, epoch: float) -> None:
        """Ends what has run out. To be called before the ledger is asked.

        `now` is by the clock of soft holds. Nominations end at a time that another process named, and so by the
        seconds since the `epoch` of the system's clock.
        """
        for uid in self._holds_end.due(now):
            hold = self._holds.get(uid)
            if hold is not None and hold.is_over(now):
                self.release(uid)
        for uid in self._nominations_end.due(epoch):
            pod = self._pods.get(uid)
            nomination = pod.nomination if pod is not None and pod.node is None else None
            if nomination is not None and nomination.until.timestamp() <= epoch:
                self._nodes[nomination.node].nominated.pop(uid, None)
                self._changed(nomination.node)

    # Questions

    def pod(self, uid: PodUid) -> GpuPod | None:
        """The pod as it was last seen, here or in a scheduler's request."""
        hold = self._holds.get(uid)
        return self._pods.get(uid) or (hold.pod if hold else None)

    def soft_hold(self, uid: PodUid) -> Assignment | None:
        """What is held for a pod whose bind has not begun."""
        hold = self._holds.get(uid)
        return hold.assignment if hold is not None and not hold.is_assumed else None

    def assigned(self, uid: PodUid) -> Assignment | None:
        """Where a pod is bound, or being bound."""
        pod, hold = self._pods.get(uid), self._holds.get(uid)
        if pod is not None and pod.node is not None:
            return Assignment(node=pod.node, gpus=pod.gpus)
        return hold.assignment if hold is not None and hold.is_assumed else None

    def is_assumed(self, uid: PodUid) -> bool:
        """Whether a bind is in flight, or was answered and not yet shown by the watch."""
        hold = self._holds.get(uid)
        return hold is not None and hold.is_assumed

    def placement(self, *, besides: PodUid) -> Placement:
        """The index of all nodes as they are now, what is kept for `besides` left out; good until the next event.

        After a change of policies nodes may still be judged by the policy before, until `settle` comes to them.
        """
        return self._rooms.placement(kept=self._kept_for(besides), besides=besides)

    def settle(self, *, at_most: int | None = None) -> bool:
        """Brings up to `at_most` nodes of the index up to date, all by default; whether nothing is left to do.

        Whoever has time does it, so that a question finds it done: what must not wait `placement` does by itself.
        """
        return self._rooms.settle(at_most=at_most)

    def hardware(self, name: NodeName) -> Hardware | None:
        """A node's GPUs; None while its agent has not reported."""
        node = self._nodes.get(name)
        return None if node is None or node.report is None else node.hardware

    def occupancy(self, name: NodeName, *, besides: PodUid | None = None) -> NodeOccupancy | None:
        """What there is on a node, the claims of `besides` left out; None while its agent has not reported."""
        node = self._nodes.get(name)
        if node is None or node.report is None:
            return None
        if node.policy is None:
            chosen = policy_in_force(self._policies.values(), node.labels)
            node.policy = _NO_POLICY if chosen is None else self._policy_of[chosen.metadata.name]
        if node.occupancy is None or not node.occupancy.is_of(node.report, node.policy):
            node.occupancy = Occupancy(name, node.report, policy=node.policy, unit=self.unit)
        return node.occupancy.of(
            pods=(pod for uid, pod in node.pods.items() if uid != besides),
            promises=(promise for promise in self._promises(node) if promise.pod.uid != besides),
        )

    def promised(self, *, now: float) -> Counter[Standing]:
        """How many pods have room kept for them here, by how firmly; `now` is by the clock of soft holds."""
        return Counter(hold.standing for hold in self._holds.values() if not hold.is_over(now))

    def nodes(self) -> tuple[NodeName, ...]:
        """Every node whose agent has reported."""
        return tuple(sorted(name for name, node in self._nodes.items() if node.report is not None))

    def _promises(self, node: _Node) -> Iterator[Promise]:
        """Those to pods that are not bound.

        What is held for a pod takes the place of its nomination there, and a bind in flight wherever it is: until then
        kube-scheduler may still choose the nominated node.
        """
        for hold in node.held.values():
            yield Promise(pod=hold.pod, gpus=hold.assignment.gpus, standing=hold.standing)
        for uid, pod in node.nominated.items():
            if uid not in node.held and not self.is_assumed(uid) and pod.nomination is not None:
                yield Promise(pod=pod, gpus=pod.nomination.gpus, standing=Standing.NOMINATED)

    def _kept_for(self, uid: PodUid) -> set[NodeName]:
        hold, pod = self._holds.get(uid), self._pods.get(uid)
        held = {hold.assignment.node} if hold is not None else set()
        nomination = pod.nomination if pod is not None else None
        return held | {nomination.node} if nomination is not None else held

    def _promise(self, hold: Hold) -> None:
        uid, before = hold.pod.uid, self._holds.get(hold.pod.uid)
        # One that only becomes firmer, or lasts longer, takes the same room.
        if before is None or (before.pod, before.assignment) != (hold.pod, hold.assignment):
            self.release(uid)
            self._changed(hold.assignment.node)
        self._holds[uid] = self._nodes[hold.assignment.node].held[uid] = hold
        if hold.is_assumed:
            self._nomination_changed(uid)

    def _nomination_changed(self, uid: PodUid) -> None:
        pod = self._pods.get(uid)
        if pod is not None and pod.nomination is not None:
            self._changed(pod.nomination.node)

    def _forget(self, pod: GpuPod | None) -> None:
        if pod is None:
            return
        if pod.node is not None:
            del self._nodes[pod.node].pods[pod.uid]
            self._changed(pod.node)
        elif pod.nomination is not None:
            self._nodes[pod.nomination.node].nominated.pop(pod.uid, None)
            self._changed(pod.nomination.node)

    def _changed(self, name: NodeName) -> None:
        self._rooms.changed(name)
        if self._nodes[name].is_empty:
            del self._nodes[name]

    def _policies_changed(self) -> None:
        for node in self._nodes.values():
            node.policy = None
        self._rooms.may_have_changed(self._nodes)

    def _note_drift(self, name: NodeName) -> None:
        node = self._nodes[name]
        if node.report is None:
            return
        before, node.drifted = node.drifted, drifted(node.pods.values(), node.report)
        self.drift_total += len(node.drifted - before)
        for uid in node.drifted - before:
            _log.warning(
                "container uses other GPUs than its pod was bound with pod=%s node=%s", self._pods[uid].key, name
            )
