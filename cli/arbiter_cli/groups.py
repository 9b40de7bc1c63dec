"""What manifests ask for: groups of pods that are alike, as admission would let them in. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from arbiter.demand import Demand, DemandDefaults, InvalidDemandError, resolve
from arbiter.ids import OwnerUid, PodUid
from arbiter.policy import Policy
from arbiter.workload import PolicyMode, Priority
from arbiter_cli.errors import InputError
from arbiter_cli.manifests import MAX_PRIORITY, Cap, Manifest
from arbiter_cli.workloads import Workload
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
class Group:
    """Pods that are alike, made by one object of this `kind`: so many `replicas`, None for one on each node."""

    kind: str
    namespace: str
    name: str
    demand: Demand
    replicas: int | None = 1

    @property
    def owner(self) -> OwnerUid | None:
        """Who makes its pods, where somebody does."""
        return None if self.kind in ("Pod", "GpuAllocation") else OwnerUid(f"{self.kind} {self.namespace}/{self.name}")

    def pod(self, number: int, *, of: int) -> Candidate:
        """One of its pods, which are numbered where there are several."""
        name = self.name if of == 1 else f"{self.name}-{number}"
        # By number: "a-0" may be the name of another object too.
        uid = PodUid(f"{self.kind} {self.namespace}/{self.name} {number}")
        return Candidate(uid=uid, namespace=self.namespace, name=name, demand=self.demand)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Everything that manifests ask for, in their order; `warnings` are what admission would warn of."""

    groups: tuple[Group, ...]
    policy: Policy
    warnings: tuple[str, ...] = ()


def request_of(
    manifests: Sequence[Manifest], *, unit: int, mode: PolicyMode | None, highest: Priority = Priority.CRITICAL
) -> Request:
    """What the manifests ask for under their own policies; `mode` overrides the policy's, `unit` is bytes of a slice.

    Pods of namespaces that do not say go up to priority `highest`. A GpuAllocation counts once for each pod that names
    it, and once where none does.

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
    caps = {m.content.namespace: m.content.highest for m in manifests if isinstance(m.content, Cap)}
    groups: list[Group] = []
    warnings = [
        f"QualityPolicy {policy.metadata.name} is for labelled nodes, and a plan's have no labels; it was left out."
        for policy in policies
        if not policy.selects({})
    ]
    for manifest in manifests:
        content, group = manifest.content, None
        if isinstance(content, Workload):
            group, heard = _pods(manifest.source, content, allocations, defaults=defaults, unit=unit)
            warnings += heard
        elif isinstance(content, GpuAllocation) and (content.metadata.namespace, content.metadata.name) not in named:
            group = _unused(manifest.source, content, defaults=defaults)
        if group is not None:
            _refuse_above(caps.get(group.namespace, highest), manifest.source, group)
            groups.append(group)
    chosen = policy_in_force(policies, labels={})
    policy = chosen.spec.policy() if chosen else Policy()
    return Request(
        groups=tuple(groups), policy=replace(policy, mode=mode) if mode else policy, warnings=tuple(warnings)
    )


def _pods(
    source: str,
    workload: Workload,
    allocations: Mapping[tuple[str, str], GpuAllocation],
    *,
    defaults: DemandDefaults,
    unit: int,
) -> tuple[Group | None, list[str]]:
    """The pods of one workload if they ask for memory, and what admission would warn of."""
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
        return None, warnings
    group = Group(
        kind=workload.kind,
        namespace=key.namespace,
        name=key.name,
        demand=admission.frozen.demand,
        replicas=workload.replicas,
    )
    return group, warnings


def _refuse_above(cap: Priority, source: str, group: Group) -> None:
    if group.demand.priority > cap:
        raise InputError(
            f"{source}: {group.kind} {group.namespace}/{group.name}: priority {group.demand.priority.value} is above "
            f"{cap.value}, the highest of namespace {group.namespace}; "
            f"ask for less, or have its label {MAX_PRIORITY} raised."
        )


def _unused(source: str, allocation: GpuAllocation, *, defaults: DemandDefaults) -> Group:
    """One pod as if it named the GpuAllocation."""
    namespace, name = allocation.metadata.namespace, allocation.metadata.name
    try:
        demand = resolve(allocation.spec.request(), defaults=defaults)
    except InvalidDemandError as error:
        raise InputError(f"{source}: GpuAllocation {namespace}/{name}: {error}") from error
    except ValueError as error:
        raise InputError(f"{source}: GpuAllocation {namespace}/{name}: {error}.") from error
    return Group(kind="GpuAllocation", namespace=namespace, name=name, demand=demand)
