"""What the operator knows of the cluster, and what of it changed since it was last looked at. It is fed events.

Plain state without I/O and without a clock. Events may come in any order and twice; a version of an object that is
older than the known one is ignored, since what this process has just written comes back by two ways.
"""

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import TypeVar

from arbiter.demand import NO_POLICY, DemandDefaults
from arbiter.ids import NodeName, NodeUid, PodUid
from arbiter.policy import Policy
from arbiter_kube.api.gpuallocation import GpuAllocation
from arbiter_kube.api.gpunode import GpuNode
from arbiter_kube.api.objects import Node, NodeSpec, ObjectKey, Pod
from arbiter_kube.api.pods import GpuPod, gpu_pod
from arbiter_kube.api.qualitypolicy import DEFAULT_POLICY_NAME, QualityPolicy, policy_in_force
from arbiter_kube.api.reports import ANY_NODE, counts_for, node_of
from arbiter_kube.api.scheduling import Requests, allocatable
from arbiter_operator.loads import Loads
from arbiter_operator.node import NodeState, display_name

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class KnownPod:
    """A pod as the API server has it, and as Arbiter sees it."""

    raw: Pod
    seen: GpuPod

    def means_the_same(self, other: "KnownPod") -> bool:
        """Whether no decision could differ: while it waits, kube-scheduler's word counts as well."""
        return self.seen == other.seen and (
            self.seen.node is not None or self.raw.status.conditions == other.raw.status.conditions
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How many nodes with GPUs a policy selects, on how many it is in force, and the policies of the others."""

    selected: int
    in_force: int
    others: tuple[QualityPolicy, ...] = ()


class Cluster:
    """Pods with GPU memory, nodes, what their agents report, allocations and policies.

    `changed_nodes`, `changed_allocations` and `changed_policies` (any at all) are the reader's to reset.
    """

    def __init__(self, *, unit: int) -> None:
        """`unit` is the bytes of one slice where a node does not say otherwise."""
        self.unit = unit
        self.changed_nodes: set[NodeName] = set()
        self.changed_allocations: set[ObjectKey] = set()
        self.changed_policies = False
        self.node_changes = 0
        """How often a node has become another; it only rises."""
        self.allocations: dict[ObjectKey, GpuAllocation] = {}
        self.policies: dict[str, QualityPolicy] = {}
        self._told: dict[NodeName, GpuNode] = {}
        self._pods: dict[PodUid, KnownPod] = {}
        self._unbound: set[PodUid] = set()
        self._on_node: dict[NodeName, set[PodUid]] = defaultdict(set)
        self._of_allocation: dict[ObjectKey, set[PodUid]] = defaultdict(set)
        self._nodes: dict[NodeName, Node] = {}
        self._states: dict[NodeName, NodeState] = {}
        self._loads = Loads()

    # Events

    def pod_applied(self, pod: Pod) -> None:
        """A pod is new or changed."""
        known, seen = self._pods.get(pod.uid), gpu_pod(pod, unit=self.unit)
        if known is not None and _is_older(pod, known.raw):
            return
        self._loads.applied(pod)
        if seen is None:
            return
        new = self._pods[pod.uid] = KnownPod(pod, seen)
        if known is not None and known.means_the_same(new):
            return
        if seen.node is not None:
            self._on_node[seen.node].add(seen.uid)
        if seen.node is None and not seen.finished:
            self._unbound.add(seen.uid)
        else:
            self._unbound.discard(seen.uid)
        key = allocation_key(seen)
        if key is not None:
            self._of_allocation[key].add(seen.uid)
        self._mark(seen)

    def pod_written(self, pod: Pod) -> None:
        """What a write of ours left; the pod may have been deleted meanwhile, and then stays forgotten."""
        if pod.uid in self._pods:
            self.pod_applied(pod)

    def pod_deleted(self, pod: Pod) -> None:
        """A pod is gone."""
        self._loads.deleted(pod)
        known = self._pods.pop(pod.uid, None)
        if known is None:
            return
        self._unbound.discard(pod.uid)
        if known.seen.node is not None:
            _take_out(self._on_node, known.seen.node, pod.uid)
        key = allocation_key(known.seen)
        if key is not None:
            _take_out(self._of_allocation, key, pod.uid)
        self._mark(known.seen)

    def node_applied(self, node: Node) -> None:
        """A node is new or changed; its labels choose its policy, its readiness where pods may wait for room."""
        known = self._nodes.get(node.name)
        self._nodes[node.name] = node
        if known is None or _chooses(known) != _chooses(node):
            self.mark_policies()
        if known is None or _matters(known) != _matters(node):
            self._node_changed(node.name)

    def node_deleted(self, node: Node) -> None:
        """A node is gone."""
        self._nodes.pop(node.name, None)
        self.mark_policies()
        self._node_changed(node.name)

    def report_applied(self, report: GpuNode) -> None:
        """A node's agent says something new."""
        name = NodeName(report.metadata.name)
        known = self._told.get(name)
        if known is None or _told_of(known) != _told_of(report):
            self.mark_policies()
        self._told[name] = report
        self._node_changed(name)

    def report_deleted(self, report: GpuNode) -> None:
        """A node's GPUs are gone."""
        name = NodeName(report.metadata.name)
        self._told.pop(name, None)
        self.mark_policies()
        self._node_changed(name)

    def allocation_applied(self, allocation: GpuAllocation) -> None:
        """An allocation is new or changed."""
        key = ObjectKey(allocation.metadata.namespace, allocation.metadata.name)
        known = self.allocations.get(key)
        if known != allocation and (known is None or not _is_older(allocation, known)):
            self.allocations[key] = allocation
            self.changed_allocations.add(key)

    def allocation_written(self, allocation: GpuAllocation) -> None:
        """What a write of ours left; the allocation may have been edited or deleted meanwhile, and then stays so."""
        key = ObjectKey(allocation.metadata.namespace, allocation.metadata.name)
        known = self.allocations.get(key)
        if known is not None and not _is_older(allocation, known):
            self.allocations[key] = allocation

    def allocations_listed(self, listed: Iterable[GpuAllocation], *, before: Set[ObjectKey]) -> None:
        """All allocations that there were at some moment: what is not among them is gone, whether or not anybody told.

        `before` are those that were known when the list was asked for: others may be younger than its answer.
        """
        everything = tuple(listed)
        for key in before - {ObjectKey(a.metadata.namespace, a.metadata.name) for a in everything}:
            self.allocation_deleted(key)
        for allocation in everything:
            self.allocation_applied(allocation)

    def allocation_deleted(self, key: ObjectKey, *, uid: str | None = None) -> None:
        """An allocation is gone, whichever has the name or that of this `uid`; its pods keep what was frozen into them.

        Of one that is made anew under its name at once, the watch may tell before it tells of the end of the first.
        """
        if _is_another(self.allocations.get(key), uid):
            return
        self.allocations.pop(key, None)
        self.changed_allocations.add(key)

    def policy_applied(self, policy: QualityPolicy) -> None:
        """A policy is new or changed."""
        known = self.policies.get(policy.metadata.name)
        if known is not None and _is_older(policy, known):
            return
        self.policies[policy.metadata.name] = policy
        if known != policy:
            self.mark_policies()
        if known is None or known.spec != policy.spec:
            self._policies_changed()

    def policy_written(self, policy: QualityPolicy) -> None:
        """What a write of ours left; the policy may have been edited or deleted meanwhile, and then stays so."""
        known = self.policies.get(policy.metadata.name)
        if known is not None and not _is_older(policy, known):
            self.policies[policy.metadata.name] = policy

    def policies_listed(self, listed: Iterable[QualityPolicy], *, before: Set[str]) -> None:
        """All policies that there were at some moment, and those that were known before it."""
        everything = tuple(listed)
        for name in before - {policy.metadata.name for policy in everything}:
            self.policy_deleted(name)
        for policy in everything:
            self.policy_applied(policy)

    def policy_deleted(self, name: str, *, uid: str | None = None) -> None:
        """A policy is gone, whichever has the name or that of this `uid`."""
        if not _is_another(self.policies.get(name), uid) and self.policies.pop(name, None) is not None:
            self._policies_changed()

    # Questions

    @property
    def is_changed(self) -> bool:
        """Whether there is anything that the reader has not reset."""
        return bool(self.changed_nodes or self.changed_allocations or self.changed_policies)

    @property
    def default_policy(self) -> QualityPolicy | None:
        """The policy that counts before a pod's node is known."""
        return self.policies.get(DEFAULT_POLICY_NAME)

    @property
    def demand_defaults(self) -> DemandDefaults:
        """What that policy adds to demands."""
        policy = self.default_policy
        return NO_POLICY if policy is None else policy.spec.demand_defaults()

    def pod(self, uid: PodUid) -> KnownPod | None:
        """A pod with GPU memory."""
        return self._pods.get(uid)

    def name_of(self, uid: PodUid) -> str:
        """What a pod is called in sentences, with its priority."""
        known = self._pods.get(uid)
        if known is None:
            return "a container whose pod is unknown"
        return f"{display_name(known.seen)} ({known.seen.demand.priority.value})"

    @property
    def pod_uids(self) -> Container[PodUid]:
        """The pods with GPU memory."""
        return self._pods.keys()

    def unbound(self) -> list[KnownPod]:
        """The pods that have no node yet, oldest first."""
        pods = (self._pods[uid] for uid in self._unbound)
        return sorted(pods, key=lambda pod: (pod.seen.created_at, pod.seen.uid))

    def pods_of(self, key: ObjectKey) -> list[GpuPod]:
        """The live pods that name an allocation, by name."""
        pods = (self._pods[uid].seen for uid in self._of_allocation.get(key, ()))
        return sorted((pod for pod in pods if not pod.finished), key=lambda pod: pod.name)

    @property
    def reports(self) -> dict[NodeName, GpuNode]:
        """What the nodes' agents say, but nothing of former nodes."""
        return {name: report for name in self._told if (report := self._report(name)) is not None}

    @property
    def outdated(self) -> list[NodeName]:
        """The names under which a former node's GpuNode is still there."""
        return sorted(name for name in self._told if self._report(name) is None)

    def _report(self, name: NodeName) -> GpuNode | None:
        told, node = self._told.get(name), self._nodes.get(name)
        uid = ANY_NODE if node is None else NodeUid(node.metadata.uid)
        return told if told is not None and counts_for(uid, told_of=_told_of(told)) else None

    def node_state(self, name: NodeName) -> NodeState | None:
        """A node as the decisions see it; None while its agent has not reported."""
        report = self._report(name)
        if report is None:
            return None
        if name not in self._states:
            policy, policy_name = self._in_force(name)
            here = [self._pods[uid] for uid in sorted(self._on_node.get(name, ()))]
            self._states[name] = NodeState(
                name=name,
                report=report.status,
                pods=tuple(known.seen for known in here),
                ending={
                    known.seen.uid: at.timestamp() for known in here if (at := known.raw.metadata.deletion_timestamp)
                },
                policy=policy,
                policy_name=policy_name,
            )
        return self._states[name]

    def policy_of(self, name: NodeName) -> QualityPolicy | None:
        """The policy in force on a node."""
        return policy_in_force(self.policies.values(), self._labels(name))

    def reach_of(self, policy: QualityPolicy) -> Reach:
        """The nodes with GPUs that a policy selects, and whom they follow."""
        selected = [name for name in self.reports if policy.selects(self._labels(name))]
        followed = Counter(chosen.metadata.name for name in selected if (chosen := self.policy_of(name)) is not None)
        in_force = followed.pop(policy.metadata.name, 0)
        return Reach(
            selected=len(selected), in_force=in_force, others=tuple(self.policies[name] for name in sorted(followed))
        )

    def _labels(self, name: NodeName) -> dict[str, str]:
        node = self._nodes.get(name)
        return {} if node is None else node.metadata.labels

    def nodes_with_gpus(self) -> list[tuple[Node, NodeState]]:
        """The nodes whose agents report, by name, and what decisions see of them."""
        known = ((self._nodes.get(name), self.node_state(name)) for name in sorted(self._told))
        return [(node, state) for node, state in known if node is not None and state is not None]

    def requests_on(self, name: NodeName) -> Mapping[PodUid, Requests]:
        """What each pod of a node asks for of CPU and memory."""
        return self._loads.on(name)

    def idle_on(self, node: Node) -> Requests:
        """What nobody asks for of a node's CPU and memory."""
        return allocatable(node) - self._loads.total(node.name)

    def _mark(self, pod: GpuPod) -> None:
        key = allocation_key(pod)
        if key is not None:
            self.changed_allocations.add(key)
        if pod.node is not None:
            self._node_changed(pod.node)

    def _node_changed(self, name: NodeName) -> None:
        """A node and, since their sentences name neighbours, the allocations of everybody there."""
        self._states.pop(name, None)
        self.node_changes += 1
        self.changed_nodes.add(name)
        keys = (allocation_key(self._pods[uid].seen) for uid in self._on_node.get(name, ()))
        self.changed_allocations.update(key for key in keys if key is not None)

    def mark_policies(self) -> None:
        """Has the policies' status looked at."""
        self.changed_policies = True

    def mark_unused_allocations(self) -> None:
        """Has those looked at that no pod names."""
        self.changed_allocations.update(key for key in self.allocations if not self._of_allocation.get(key))

    def _policies_changed(self) -> None:
        """Has the nodes looked at on which another policy is in force now, and everything that demands follow from."""
        self.mark_policies()
        self.changed_allocations.update(self.allocations)
        for name in self._told:
            state = self._states.get(name)
            if state is None or self._in_force(name) != (state.policy, state.policy_name):
                self._node_changed(name)

    def _in_force(self, name: NodeName) -> tuple[Policy, str]:
        policy = self.policy_of(name)
        return (Policy(), "") if policy is None else (policy.spec.policy(), policy.metadata.name)

    def forget_changes(self) -> None:
        """Has nothing looked at: who begins to look looks at everything."""
        self.changed_nodes.clear()
        self.changed_allocations.clear()
        self.changed_policies = False

    def mark_everything(self) -> None:
        """Has everything looked at."""
        self.mark_policies()
        self.changed_nodes.update(self._told)
        self.changed_allocations.update(self.allocations)


def allocation_key(pod: GpuPod) -> ObjectKey | None:
    """The allocation that a pod names."""
    return None if pod.frozen.allocation is None else ObjectKey(pod.namespace, pod.frozen.allocation)


def _is_older(one: Pod | GpuAllocation | QualityPolicy, other: Pod | GpuAllocation | QualityPolicy) -> bool:
    return _version(one.metadata.resource_version) < _version(other.metadata.resource_version)


def _take_out(index: dict[K, set[PodUid]], key: K, uid: PodUid) -> None:
    """Leaves no trace of a key without pods: names of nodes and allocations may come and go for ever."""
    index[key].discard(uid)
    if not index[key]:
        del index[key]


def _is_another(known: GpuAllocation | QualityPolicy | None, uid: str | None) -> bool:
    return known is not None and uid is not None and known.metadata.uid != uid


def _version(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _told_of(report: GpuNode) -> NodeUid:
    return node_of(report.metadata.owner_references)


def _chooses(node: Node) -> tuple[str, dict[str, str]]:
    """What decides whether a report is about the node, and which policy is in force there."""
    return node.metadata.uid, node.metadata.labels


def _matters(node: Node) -> tuple[tuple[str, dict[str, str]], bool, NodeSpec, dict[str, str]]:
    return _chooses(node), node.is_ready, node.spec, node.status.allocatable
