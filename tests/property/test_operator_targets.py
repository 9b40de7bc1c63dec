"""Targets are a pure function of a node: without memory, whatever the order, and at rest once they are written."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from arbiter.ids import GpuUuid, PodUid
from arbiter.policy import Policy
from arbiter.units import GIB, MIB
from arbiter.workload import PolicyMode, Priority, WorkloadType
from arbiter_kube.api.gpunode import GrantOnNode, GrantState
from arbiter_kube.api.pods import GpuPod
from arbiter_operator.node import NodeState
from arbiter_operator.targets import NodePlan, plan
from tests.unit.operator.builders import demand, gpu_pod, node, on_node, target

_GPUS = (GpuUuid("GPU-0"), GpuUuid("GPU-1"))
_MINIMUM = {
    WorkloadType.LLM_INFERENCE: "0.4",
    WorkloadType.IMAGE_GENERATION: "0.3",
    WorkloadType.VIDEO_GENERATION: "0.25",
}


@st.composite
def _pods(draw: st.DrawFn, index: int) -> GpuPod:
    kind = draw(st.sampled_from(WorkloadType))
    full = draw(st.integers(1024, 12288)) * MIB
    floor = draw(st.integers(256, full // MIB)) * MIB
    gpus = draw(st.sampled_from([_GPUS[:1], _GPUS[1:], _GPUS]))
    told = draw(st.none() | st.integers(floor // MIB, full // MIB))
    return gpu_pod(
        f"pod-{index}",
        of=demand(
            kind=kind.value,
            priority=draw(st.sampled_from(Priority)).value,
            full=full,
            floor=floor,
            minimum=_MINIMUM[kind],
            gpu_count=len(gpus),
            resize=draw(st.sampled_from(["InPlace", "AtStart"])),
        ),
        gpus=gpus,
        grant=None if told is None else target("0.500", told, revision=draw(st.integers(1, 9))),
        finished=draw(st.booleans()),
        terminating=draw(st.booleans()),
    )


@st.composite
def _nodes(draw: st.DrawFn) -> NodeState:
    pods = [draw(_pods(index)) for index in range(draw(st.integers(0, 5)))]
    grants = [_grant(draw, pod) for pod in pods if draw(st.booleans())]
    policy = Policy(mode=draw(st.sampled_from(PolicyMode)))
    return node(*pods, grants=tuple(grants), usable=(12 * GIB, 24 * GIB), policy=policy)


def _grant(draw: st.DrawFn, pod: GpuPod) -> GrantOnNode:
    size = draw(st.integers(pod.demand.floor // MIB, pod.demand.full // MIB))
    return on_node(pod, size, state=draw(st.sampled_from(GrantState)))


def _written(state: NodeState, decided: NodePlan) -> NodeState:
    """The node once everything that was decided stands on its pods."""
    grants = {change.pod.uid: change.grant for change in decided.changes if change.grant is not None}
    gpus = {change.pod.uid: change.gpus for change in decided.changes if change.gpus is not None}
    pods = (replace(pod, grant=grants.get(pod.uid, pod.grant), gpus=gpus.get(pod.uid, pod.gpus)) for pod in state.pods)
    return replace(state, pods=tuple(pods))


def _numbers(decided: NodePlan) -> dict[PodUid, tuple[str, int, int] | None]:
    return {
        change.pod.uid: None
        if change.grant is None
        else (change.grant.quality, change.grant.vram, change.grant.revision)
        for change in decided.changes
    }


@given(state=_nodes(), data=st.data())
def test_targets_do_not_depend_on_the_order_of_pods_and_grants(state: NodeState, data: st.DataObject) -> None:
    pods = data.draw(st.permutations(state.pods))
    grants = data.draw(st.permutations(state.report.grants))
    shuffled = replace(state, pods=tuple(pods), report=state.report.model_copy(update={"grants": grants}))
    assert plan(shuffled) == plan(state)


@given(state=_nodes(), former=st.none() | _nodes())
def test_what_was_known_before_changes_no_target(state: NodeState, former: NodeState | None) -> None:
    assert _numbers(plan(state, before=former)) == _numbers(plan(state))


@given(state=_nodes())
def test_once_written_nothing_is_left_to_write(state: NodeState) -> None:
    assert plan(_written(state, plan(state))).changes == ()


@given(state=_nodes())
def test_no_target_leaves_the_range_of_its_demand_and_none_is_told_to_who_is_over(state: NodeState) -> None:
    for change in plan(state).changes:
        assert not change.pod.finished
        assert not change.pod.terminating
        if change.grant is not None:
            wanted = change.pod.demand
            assert wanted.floor <= change.grant.vram <= wanted.full
            assert float(wanted.minimum) <= float(change.grant.quality) <= float(wanted.maximum)
