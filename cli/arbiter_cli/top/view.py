"""What there is to see of a cluster: GPUs, who is on them, and who waits. Pure: a snapshot in, rows out."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction

from arbiter.equilibrium import solve
from arbiter.ids import GpuUuid, NodeName
from arbiter.units import format_bytes
from arbiter.workload import MemoryPressure
from arbiter_cli.kinds import TimedPod
from arbiter_cli.snapshot import Snapshot
from arbiter_kube.api.gpunode import GpuStatus, GrantState
from arbiter_kube.api.objects import ObjectKey
from arbiter_operator.node import NodeState, Seat
from arbiter_operator.places import Queued
from arbiter_operator.waiting import needs


class Sort(StrEnum):
    """What comes first, of GPUs and of the pods on each."""

    GPU = "gpu"
    PRICE = "price"
    QUALITY = "quality"
    GRANTED = "granted"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRow:
    """A pod on a GPU; sizes in bytes per GPU. `quality` is what it may use now, `target` what it is to come to.

    Both are None for what is held, and for containers whose pod is over. `changed` is when its target was written, in
    seconds since the epoch.
    """

    namespace: str
    pod: str
    type: str
    priority: str
    quality: Fraction | None
    target: Fraction | None
    granted: int | None
    held: int
    measured: int | None
    state: str
    revision: int | None
    changed: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRow:
    """A GPU; sizes in bytes. `floors` is what the kubelet reserved, `reason` why it is not healthy."""

    gpu: str
    node: str
    index: int
    uuid: str
    model: str
    usable: int
    floors: int
    granted: int
    measured: int | None
    price: Fraction
    pressure: MemoryPressure
    mode: str
    enforcement: str
    healthy: bool
    reason: str
    pods: tuple[PodRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingRow:
    """A pod without a GPU; `since` in seconds since the epoch. `shortage` is empty where there is room by now."""

    namespace: str
    pod: str
    type: str
    priority: str
    floor: int
    shortage: str
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything, `at` in seconds since the epoch; the counts are of the whole cluster, whatever is shown of it."""

    at: float
    nodes: int
    gpus: int
    grants: int
    waiting: int
    rows: tuple[GpuRow, ...]
    queue: tuple[WaitingRow, ...]

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Those of all pods that are shown."""
        pods = (pod.namespace for row in self.rows for pod in row.pods)
        return tuple(sorted({*pods, *(one.namespace for one in self.queue)}))


class Viewer:
    """Makes views of one snapshot after another; nodes that stay as they are are not solved again."""

    def __init__(self) -> None:
        self._known: dict[NodeName, tuple[NodeState, tuple[GpuRow, ...]]] = {}

    def view(self, snapshot: Snapshot) -> View:
        """Everything there is to see."""
        nodes = snapshot.cluster.nodes_with_gpus()
        self._known = {state.name: self._rows(state, snapshot) for _, state in nodes}
        rows = tuple(row for _, state in nodes for row in self._known[state.name][1])
        queue = tuple(map(_waiting, snapshot.queue))
        return View(
            at=snapshot.at,
            nodes=len(nodes),
            gpus=len(rows),
            grants=len({(pod.namespace, pod.pod) for row in rows for pod in row.pods}),
            waiting=len(queue),
            rows=rows,
            queue=queue,
        )

    def _rows(self, state: NodeState, snapshot: Snapshot) -> tuple[NodeState, tuple[GpuRow, ...]]:
        known = self._known.get(state.name)
        if known is not None and known[0] is state:
            return known
        return state, tuple(_gpus(state, snapshot))


def chosen(view: View, *, namespace: str | None, sort: Sort) -> View:
    """The pods of one namespace, or of all, and their GPUs, in this order."""
    rows = view.rows
    queue = view.queue
    if namespace is not None:
        rows = tuple(
            replace(row, pods=here)
            for row in rows
            if (here := tuple(pod for pod in row.pods if pod.namespace == namespace))
        )
        queue = tuple(one for one in queue if one.namespace == namespace)
    sorted_pods = (replace(row, pods=tuple(sorted(row.pods, key=lambda pod: _pod_order(pod, sort)))) for row in rows)
    return replace(view, rows=tuple(sorted(sorted_pods, key=lambda row: _gpu_order(row, sort))), queue=queue)


def _gpu_order(row: GpuRow, sort: Sort) -> tuple[float, str, int]:
    first = {
        Sort.GPU: 0.0,
        Sort.PRICE: -float(row.price),
        Sort.QUALITY: min((_quality(pod) for pod in row.pods), default=2.0),
        Sort.GRANTED: -float(row.granted),
        Sort.CHANGED: -max((pod.changed or 0.0 for pod in row.pods), default=0.0),
    }
    return first[sort], row.node, row.index


def _pod_order(pod: PodRow, sort: Sort) -> tuple[float, str, str]:
    first = {
        Sort.QUALITY: _quality(pod),
        Sort.GRANTED: -float(pod.granted or 0),
        Sort.CHANGED: -(pod.changed or 0.0),
    }
    return first.get(sort, 0.0), pod.namespace, pod.pod


def _quality(pod: PodRow) -> float:
    return 2.0 if pod.quality is None else float(pod.quality)


def _gpus(state: NodeState, snapshot: Snapshot) -> Iterable[GpuRow]:
    members = [seat.member for seat in state.seats.values()]
    prices = solve(state.capacities, members, state.policy).prices
    for gpu in sorted(state.report.gpus, key=lambda gpu: gpu.index):
        uuid = GpuUuid(gpu.uuid)
        here = [seat for seat in state.seats.values() if uuid in seat.member.gpus]
        yield GpuRow(
            gpu=state.label(uuid),
            node=state.name,
            index=gpu.index,
            uuid=gpu.uuid,
            model=gpu.name,
            usable=gpu.usable,
            floors=sum(count.slices for count in state.report.slices if count.gpu == uuid) * state.report.unit,
            granted=sum(seat.grant.granted or 0 for seat in here if seat.grant is not None),
            measured=gpu.used,
            price=prices[uuid].price,
            pressure=prices[uuid].pressure,
            mode=state.policy.mode.value,
            enforcement=gpu.enforcement,
            healthy=gpu.healthy,
            reason=_illness(gpu),
            pods=tuple(sorted((_pod(seat, snapshot) for seat in here), key=lambda pod: (pod.namespace, pod.pod))),
        )


def _illness(gpu: GpuStatus) -> str:
    return "" if gpu.healthy else gpu.reason or "its node does not say why"


def _pod(seat: Seat, snapshot: Snapshot) -> PodRow:
    grant, pod = seat.grant, seat.pod
    if pod is None:
        namespace, name = ("", seat.who) if grant is None else (grant.namespace, grant.pod)
    else:
        namespace, name = pod.namespace, pod.name
    told = None if pod is None else pod.grant
    may_use = None if grant is None or grant.quality is None else round(Fraction(grant.quality) * 1000) / Fraction(1000)
    raw = snapshot.pods.get(ObjectKey(namespace, name))
    return PodRow(
        namespace=namespace,
        pod=name,
        type="-" if pod is None else pod.demand.workload_type.defaults.short_name,
        priority="-" if seat.priority is None else seat.priority.value,
        quality=None if pod is None else may_use,
        target=None if told is None else Fraction(told.quality),
        granted=None if grant is None else grant.granted,
        held=0 if grant is None else grant.held,
        measured=None if grant is None else grant.measured,
        state=_state(seat),
        revision=None if told is None else told.revision,
        changed=_changed(raw),
    )


def _state(seat: Seat) -> str:
    if seat.pod is None:
        return "Over"
    if seat.pod.terminating:
        return "Ending"
    return GrantState.GATED.value if seat.grant is None else seat.grant.state.value


def _changed(pod: TimedPod | None) -> float | None:
    return None if pod is None else pod.decided_at


def _waiting(one: Queued) -> WaitingRow:
    pod = one.wait.pod
    return WaitingRow(
        namespace=pod.namespace,
        pod=pod.name,
        type=pod.demand.workload_type.defaults.short_name,
        priority=pod.demand.priority.value,
        floor=pod.demand.floor,
        shortage=one.shortage.removeprefix(f"{needs(pod.demand)}; "),
        since=one.wait.since,
    )


def floor_text(row: WaitingRow) -> str:
    """``floor 10Gi; gpu-1/0 has 6Gi``; that there is room where there is."""
    return f"floor {format_bytes(row.floor)}; {row.shortage or 'there is room, kube-scheduler is asked again'}"
