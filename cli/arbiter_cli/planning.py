"""What manifests would get on given GPUs: what admission, scheduler extender and operator would decide. Pure.

Every pod counts as not started yet, so that sizes which are set once at a start are still open.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from arbiter.demand import Demand, DemandDefaults, InvalidDemandError, resolve
from arbiter.equilibrium import Equilibrium, Member, solve
from arbiter.ids import GpuUuid, NodeName, PodUid
from arbiter.placement import GpuRoom, NodeRoom, choose
from arbiter.policy import Policy
from arbiter.units import format_bytes, slices_for
from arbiter.workload import PolicyMode
from arbiter_cli.errors import InputError
from arbiter_cli.manifests import Manifest, Workload
from arbiter_kube.api.gpuallocation import GpuAllocation
from arbiter_kube.api.qualitypolicy import DEFAULT_POLICY_NAME, QualityPolicy, policy_in_force
from arbiter_operator.admission.decision import Named, allocation_named, decide
from arbiter_operator.admission.errors import RefusedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A pod that would ask for VRAM. `uid` stands for the one that the API server would give it."""

    uid: PodUid
    namespace: str
    name: str
    demand: Demand


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Everything that manifests ask for, in their order; `warnings` are what admission would warn of."""

    candidates: tuple[Candidate, ...]
    policy: Policy
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unplaced:
    """A pod without room, and why."""

    candidate: Candidate
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The answer. `placed` are the candidates with their GPUs, in the order of the manifests."""

    policy: Policy
    placed: tuple[tuple[Candidate, tuple[GpuUuid, ...]], ...]
    unplaced: tuple[Unplaced, ...]
    equilibrium: Equilibrium

    def target_of(self, candidate: Candidate) -> tuple[Fraction, int]:
        """Quality and bytes per GPU of a placed candidate."""
        target = self.equilibrium.targets[candidate.uid]
        # None stands for a held member, and in a plan nobody runs yet.
        return target.quality or Fraction(0), target.vram

    def members_of(self, gpu: GpuUuid) -> list[Candidate]:
        """The candidates on one GPU."""
        return [candidate for candidate, gpus in self.placed if gpu in gpus]


def request_of(manifests: Sequence[Manifest], *, unit: int, mode: PolicyMode | None) -> Request:
    """What the manifests ask for under their own policies; `mode` overrides the policy's, `unit` is bytes of a slice.

    A GpuAllocation counts once for each pod that names it, and once where none does.

    Raises:
        InputError: admission would refuse a pod, or nobody could use a GpuAllocation.
    """
    allocations = {
        (content.metadata.namespace, content.metadata.name): content
        for content in (manifest.content for manifest in manifests)
        if isinstance(content, GpuAllocation)
    }
    policies = [m.content for m in manifests if isinstance(m.content, QualityPolicy)]
    default = next((policy for policy in policies if policy.metadata.name == DEFAULT_POLICY_NAME), None)
    defaults = default.spec.demand_defaults() if default else DemandDefaults()
    named = {
        (manifest.content.pod.metadata.namespace, allocation_named(manifest.content.pod))
        for manifest in manifests
        if isinstance(manifest.content, Workload)
    }
    candidates: list[Candidate] = []
    warnings: list[str] = []
    for manifest in manifests:
        content = manifest.content
        if isinstance(content, Workload):
            pods, heard = _pods(manifest.source, content, allocations, defaults=defaults, unit=unit)
            candidates += pods
            warnings += heard
        elif isinstance(content, GpuAllocation) and (content.metadata.namespace, content.metadata.name) not in named:
            candidates.append(_unused(manifest.source, content, defaults=defaults))
    chosen = policy_in_force(policies, labels={})
    policy = chosen.spec.policy() if chosen else Policy()
    return Request(
        candidates=tuple(candidates),
        policy=replace(policy, mode=mode) if mode else policy,
        warnings=tuple(warnings),
    )


def _pods(
    source: str,
    workload: Workload,
    allocations: Mapping[tuple[str, str], GpuAllocation],
    *,
    defaults: DemandDefaults,
    unit: int,
) -> tuple[list[Candidate], list[str]]:
    """The pods of one workload, and what admission would warn of."""
    key, allocation = workload.pod.key, allocation_named(workload.pod)
    named = None
    if allocation is not None:
        named = Named(
            name=allocation,
            found=allocations.get((key.namespace, allocation)),
            others=tuple(name for namespace, name in allocations if namespace == key.namespace),
        )
    try:
        admission = decide(workload.pod, named=named, defaults=defaults, unit=unit)
    except RefusedError as refusal:
        raise InputError(f"{source}: {refusal}") from refusal
    warnings = [f"{source}: pod {key}: {warning}" for warning in admission.warnings]
    if admission.frozen is None:
        return [], warnings
    names = [key.name] if workload.replicas == 1 else [f"{key.name}-{number}" for number in range(workload.replicas)]
    pods = [
        Candidate(
            uid=PodUid(f"{workload.kind} {key.namespace}/{name}"),
            namespace=key.namespace,
            name=name,
            demand=admission.frozen.demand,
        )
        for name in names
    ]
    return pods, warnings


def _unused(source: str, allocation: GpuAllocation, *, defaults: DemandDefaults) -> Candidate:
    """One pod as if it named the GpuAllocation."""
    namespace, name = allocation.metadata.namespace, allocation.metadata.name
    try:
        demand = resolve(allocation.spec.request(), defaults=defaults)
    except InvalidDemandError as error:
        raise InputError(f"{source}: GpuAllocation {namespace}/{name}: {error}") from error
    except ValueError as error:
        raise InputError(f"{source}: GpuAllocation {namespace}/{name}: {error}.") from error
    return Candidate(uid=PodUid(f"GpuAllocation {namespace}/{name}"), namespace=namespace, name=name, demand=demand)


def plan(request: Request, capacities: Mapping[GpuUuid, int], *, unit: int) -> Plan:
    """Places the candidates one by one on one node with GPUs of these usable bytes, then solves their equilibrium."""
    rooms = {uuid: GpuRoom(uuid=uuid, usable=usable) for uuid, usable in capacities.items()}
    placed: list[tuple[Candidate, tuple[GpuUuid, ...]]] = []
    unplaced: list[Unplaced] = []
    for candidate in request.candidates:
        node = NodeRoom(name=NodeName("plan"), gpus=tuple(rooms.values()), policy=request.policy, unit=unit)
        choice = choose((node,), candidate.demand)
        if choice is None:
            unplaced.append(Unplaced(candidate, _why_not(node, candidate.demand)))
            continue
        placed.append((candidate, choice.gpus))
        member = Member(
            uid=candidate.uid, name=f"{candidate.namespace}/{candidate.name}", demand=candidate.demand, gpus=choice.gpus
        )
        for uuid in choice.gpus:
            rooms[uuid] = replace(rooms[uuid], members=(*rooms[uuid].members, member))
    members = {member.uid: member for room in rooms.values() for member in room.members}
    return Plan(
        policy=request.policy,
        placed=tuple(placed),
        unplaced=tuple(unplaced),
        equilibrium=solve(capacities, members.values(), request.policy),
    )


def _why_not(node: NodeRoom, demand: Demand) -> str:
    """One sentence's part: what it needs, and what there is."""
    needed = slices_for(demand.floor, unit=node.unit) * node.unit
    in_units = "" if needed == demand.floor else f" ({format_bytes(needed)} in whole units)"
    needs = f"needs {format_bytes(demand.floor)}{in_units} on"
    room = {gpu.uuid: gpu.largest_floor(unit=node.unit) for gpu in node.gpus}
    if demand.gpu_count > 1:
        enough = sum(free >= needed for free in room.values())
        return f"{needs} each of {demand.gpu_count} GPUs of a node; there is room on {enough} of {len(room)}"
    largest = max(gpu.usable for gpu in node.gpus)
    if demand.floor > largest:
        return f"{needs} one GPU; the largest has {format_bytes(largest)}"
    best = max(room, key=lambda uuid: room[uuid])
    return f"{needs} one GPU; {best} has {format_bytes(room[best])}"
