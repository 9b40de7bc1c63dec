"""Checks of the nodes' side: agents, their versions, conflicts, drift, GPUs. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from arbiter.ids import NodeName
from arbiter_cli.doctor.facts import Check, Facts, Unread, Verdict
from arbiter_cli.doctor.installation import SHOWN, skipped, some
from arbiter_cli.snapshot import Snapshot
from arbiter_deviceplugin.conflicts import foreign_offers
from arbiter_kube.api import VRAM_RESOURCE
from arbiter_kube.api.fields import Condition
from arbiter_kube.api.gpunode import GpuNode
from arbiter_kube.api.objects import Node
from arbiter_kube.api.occupancy import drifted
from arbiter_kube.api.reports import node_report
from arbiter_operator.node import NodeState

_COMPONENT = "app.kubernetes.io/component"

_GPU_OPERATOR = "nvidia.com/gpu.deploy.device-plugin=false"

_PRESENT = "nvidia.com/gpu.present=true"
"""By which the chart's agents know nodes with GPUs."""

_LEFT = "the node is gone, its GpuNode is left"


def check_agents(facts: Facts) -> Check:
    """Whether every node with GPUs offers them."""
    if isinstance(facts.snapshot, Unread):
        return skipped("agents", "agents", facts.snapshot)
    snapshot = facts.snapshot
    reports, outdated = snapshot.cluster.reports, snapshot.cluster.outdated
    nodes = {node.name: node for node in snapshot.nodes if node.name not in outdated}
    count = len(reports) + len(outdated)
    if not count:
        return Check(
            name="agents",
            verdict=Verdict.FAIL,
            text="agents: no node reports GPUs",
            remedies=(
                f"kubectl -n {facts.namespace} get pods -l {_COMPONENT}=device-plugin -o wide",
                f"where there is none: kubectl label node NODE {_PRESENT}   (or set devicePlugin.nodeSelector)",
            ),
        )
    silent = dict.fromkeys(outdated, _LEFT)
    silent |= {name: why for name, report in sorted(reports.items()) if (why := _silence(nodes.get(name), report))}
    text = f"agents {count - len(silent)}/{count}"
    if not silent:
        return Check(name="agents", verdict=Verdict.OK, text=text)
    return Check(
        name="agents",
        verdict=Verdict.FAIL,
        text=text,
        details=some(f"{name}: {why}" for name, why in silent.items()),
        remedies=(_mend_silence(next(iter(silent)), nodes, facts.namespace),),
    )


def _mend_silence(name: NodeName, nodes: Mapping[NodeName, Node], namespace: str) -> str:
    """What says more about a node that offers nothing, or mends it."""
    if name not in nodes:
        return f"kubectl delete gpunode {name}"
    if not nodes[name].is_ready:
        return f"kubectl describe node {name}"
    agent = f"kubectl -n {namespace} get pods -l {_COMPONENT}=device-plugin --field-selector spec.nodeName={name}"
    return f"{agent}   (then its log; kubectl describe gpunode {name} has what it reports)"


def _silence(node: Node | None, report: GpuNode) -> str:
    """Why a node's GPUs are not offered; empty where they are."""
    if node is None:
        return _LEFT
    if not node.is_ready:
        return "the node is not Ready"
    if _units(node):
        return ""
    ready = _condition(report, "Ready")
    if ready is not None and ready.status == "False":
        return ready.message.rstrip(".")
    return f"offers no {VRAM_RESOURCE}: its agent does not run, or the kubelet does not know it"


def _units(node: Node) -> int:
    text = node.status.allocatable.get(VRAM_RESOURCE, "0")
    return int(text) if text.isdigit() else 1  # 1k, as the API server writes a thousand


def _condition(report: GpuNode, kind: str) -> Condition | None:
    return next((condition for condition in report.status.conditions if condition.type == kind), None)


def check_versions(facts: Facts) -> Check:
    """Whether agents and this command are of one version."""
    if isinstance(facts.snapshot, Unread):
        return skipped("versions", "versions", facts.snapshot)
    counted = Counter(report.status.agent_version or "unknown" for report in facts.snapshot.cluster.reports.values())
    if set(counted) <= {facts.own_version}:
        return Check(name="versions", verdict=Verdict.OK, text=f"agents and this command are {facts.own_version}")
    shown = ", ".join(f"{count} of {version}" for version, count in sorted(counted.items()))
    return Check(
        name="versions",
        verdict=Verdict.WARN,
        text=f"this command is {facts.own_version}, agents are: {shown}",
        remedies=(
            f"kubectl -n {facts.namespace} rollout status daemonset/arbiter-device-plugin",
            "or use the arbiter command of the cluster's version",
        ),
    )


def check_conflicts(facts: Facts) -> Check:
    """Whether each GPU has one owner."""
    if isinstance(facts.snapshot, Unread):
        return skipped("conflicts", "conflicts", facts.snapshot)
    snapshot = facts.snapshot
    reports = snapshot.cluster.reports
    twice = [node for node in snapshot.nodes if _is_offered_twice(node, reports.get(node.name))]
    if not twice:
        text = "every GPU is offered by one owner"
        return Check(name="conflicts", verdict=Verdict.OK, text=text)
    first = twice[0]
    others = "" if len(twice) == 1 else f", and {len(twice) - 1} more nodes do"
    offers = [*foreign_offers(first.status.allocatable)]
    ours = first.status.allocatable.get(VRAM_RESOURCE, "0")
    both = " and ".join([*(f"{name} {first.status.allocatable[name]}" for name in offers), f"{VRAM_RESOURCE} {ours}"])
    return Check(
        name="conflicts",
        verdict=Verdict.FAIL,
        text=f"{first.name} offers its cards twice: {both}{others}",
        details=_users(snapshot, first, offers),
        remedies=tuple(_remedies(twice, offers)),
    )


def _is_offered_twice(node: Node, report: GpuNode | None) -> bool:
    if report is None or not foreign_offers(node.status.allocatable):
        return False
    conflict = _condition(report, "Conflict")
    # Its agent was told which of the GPUs are ours.
    return conflict is None or conflict.reason != "Selected"


def _users(snapshot: Snapshot, node: Node, offers: Sequence[str]) -> tuple[str, ...]:
    """Pods that use the cards by another's name."""
    using = [
        f"in use through {name}: {pod.key}"
        for pod in snapshot.pods.values()
        for name in offers
        if pod.node == node.name
        and not pod.is_finished
        and any(name in container.resources.limits for container in pod.spec.containers)
    ]
    return some(sorted(using))


def _remedies(twice: Sequence[Node], offers: Sequence[str]) -> Iterable[str]:
    names = " ".join(node.name for node in twice[:SHOWN])
    if any(name.startswith("nvidia.com/") for name in offers):
        yield f"kubectl label node {names} {_GPU_OPERATOR}   (GPU Operator)"
        yield f"or keep NVIDIA's device plugin, whatever installed it, off these nodes: {names}"
    else:
        yield f"keep the device plugin that offers {', '.join(offers)} off these nodes: {names}"
    yield "or share the cards out by name: devicePlugin.devices of the chart"


def check_drift(facts: Facts) -> Check:
    """Whether pods have the GPUs that they were bound with."""
    if isinstance(facts.snapshot, Unread):
        return skipped("drift", "drift", facts.snapshot)
    snapshot = facts.snapshot
    wrong = [
        f"{pod.key} on {state.name}"
        for state in _states(snapshot)
        for pod in state.pods
        if not pod.finished and pod.uid in drifted(state.pods, node_report(state.report))
    ]
    if not wrong:
        return Check(name="drift", verdict=Verdict.OK, text="pods have the GPUs that they were bound with")
    count = f"{len(wrong)} pods have" if len(wrong) > 1 else "1 pod has"
    return Check(
        name="drift",
        verdict=Verdict.WARN,
        text=f"{count} other GPUs than bound with; the operator corrects that within seconds",
        details=some(wrong),
        remedies=(f"if it lasts: kubectl -n {facts.namespace} logs -l {_COMPONENT}=operator --tail=50",),
    )


def check_gpus(facts: Facts) -> Check:
    """Whether GPUs are healthy, hold no more than they have, and nobody takes more than granted."""
    if isinstance(facts.snapshot, Unread):
        return skipped("gpus", "GPUs", facts.snapshot)
    states = _states(facts.snapshot)
    gpus = [(state, gpu) for state in states for gpu in state.report.gpus]
    ill = [f"{state.name}/{gpu.index}: {gpu.reason or 'not healthy'}" for state, gpu in gpus if not gpu.healthy]
    told = [
        f"{name}: {condition.message.rstrip('.')}"
        for name, report in sorted(facts.snapshot.cluster.reports.items())
        for condition in report.status.conditions
        if condition.status == "True" and condition.type in ("Overcommitted", "MeasuredAboveGrant", "UnitMismatch")
    ]
    text = f"GPUs {len(gpus) - len(ill)}/{len(gpus)} healthy"
    if not ill and not told:
        return Check(name="gpus", verdict=Verdict.OK, text=text)
    where = (ill or told)[0].partition(":")[0].partition("/")[0]
    return Check(
        name="gpus",
        verdict=Verdict.FAIL if ill else Verdict.WARN,
        text=text if not told else f"{text}, {len(told)} warning{'s' if len(told) > 1 else ''} of their nodes",
        details=some([*ill, *told]),
        remedies=(f"kubectl describe gpunode {where}; arbiter explain node/{where}",),
    )


def _states(snapshot: Snapshot) -> list[NodeState]:
    found = (snapshot.cluster.node_state(NodeName(name)) for name in sorted(snapshot.cluster.reports))
    return [state for state in found if state is not None]
