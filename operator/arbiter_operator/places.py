"""Where pods that wait might go, and what these places lack: one reading for the operator and the CLI. Pure."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from arbiter.demand import Demand
from arbiter.ids import PodUid
from arbiter.placement import fits
from arbiter_kube.api.objects import Node, Pod
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.api.scheduling import Requests, admits, requests
from arbiter_operator.cluster import Cluster, allocation_key
from arbiter_operator.node import NodeState, room
from arbiter_operator.preemption import Place
from arbiter_operator.rooms import Rooms
from arbiter_operator.waiting import Waiting, needs, shortage, waiting


@dataclass(frozen=True, slots=True)
class Queued:
    """A pod that waits, the CPU and memory that it asks for, the nodes that it may run on, and what they lack.

    Pods of one `kind` differ in nothing that matters. `shortage` is empty where one of the nodes has room.
    """

    wait: Waiting
    kind: Hashable
    wanted: Requests
    places: Sequence[Place]
    shortage: str


def queued(cluster: Cluster, rooms: Rooms, now: float, *, only: PodUid | None = None) -> Iterator[Queued]:
    """Everybody who waits, oldest first, or `only` that one; `now` in seconds since the epoch.

    Pods that are alike are judged once: replicas wait by the hundred.
    """
    policy = cluster.default_policy
    nodes = cache(cluster.nodes_with_gpus)  # most of the time nobody waits
    unbound = cluster.unbound()
    nominated = [known.seen for known in unbound if is_nominated(known.seen, now)]
    places: dict[Hashable, list[Place]] = {}
    shortages: dict[Hashable, str] = {}
    for known in unbound if only is None else filter(None, [cluster.pod(only)]):
        pod, key = known.seen, allocation_key(known.seen)
        allocation = None if key is None else cluster.allocations.get(key)
        wait = waiting(known.raw, pod, allocation=allocation, policy=None if policy is None else policy.spec)
        if wait is None:
            continue
        kept = [other for other in nominated if other.uid != pod.uid]
        where = (*_constraints(known.raw), len(kept) < len(nominated) and pod.uid)
        if where not in places:
            admitting = [(node, state) for node, state in nodes() if admits(node, known.raw)]
            places[where] = [_place(cluster, rooms, node, state, kept, now=now) for node, state in admitting]
        wanted = requests(known.raw)
        kind = (where, pod.demand, wanted)
        if kind not in shortages:
            shortages[kind] = lack(pod.demand, wanted, places[where], name=cluster.name_of)
        yield Queued(wait, kind, wanted, places[where], shortages[kind])


def _constraints(pod: Pod) -> tuple[Hashable, ...]:
    """What of a pod decides which nodes admit it."""
    return tuple(sorted(pod.spec.node_selector.items())), pod.spec.tolerations, pod.spec.affinity


def is_nominated(pod: GpuPod, now: float) -> bool:
    """Whether room is kept for it; `now` in seconds since the epoch."""
    return pod.nomination is not None and not pod.terminating and now < pod.nomination.until.timestamp()


def _place(
    cluster: Cluster, rooms: Rooms, node: Node, state: NodeState, nominated: Iterable[GpuPod], *, now: float
) -> Place:
    """A node as a waiting pod would find it, beside the room that is kept for `nominated` pods."""
    here = [pod for pod in nominated if pod.nomination is not None and pod.nomination.node == state.name]
    return Place(
        state=state,
        room=room(state, unit=cluster.unit, nominated=here) if here else rooms.of(state),
        idle=cluster.idle_on(node),
        requests=cluster.requests_on(node.name),
        now=now,
    )


def lack(demand: Demand, wanted: Requests, places: Sequence[Place], *, name: Callable[[PodUid], str]) -> str:
    """What a pod waits for; empty where some place has all that it needs.

    `wanted` is the CPU and memory that it asks for, `name` what members are called, by pod.
    """
    roomy = [here for here in places if fits(here.room, demand)]
    if any(here.has_idle(wanted) for here in roomy):
        return ""
    if roomy:
        return f"{needs(demand)}; no node that has them has the CPU and memory that it asks for"
    labels = {gpu: here.state.label(gpu) for here in places for gpu in here.state.capacities}
    return shortage(demand, [here.room for here in places], labels=labels, name=name)
