"""What the node says of itself."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from arbiter.ids import GpuUuid
from arbiter.transitions import GrantState as EngineState
from arbiter.transitions import GrantStatus
from arbiter.units import GIB, MIB
from arbiter_deviceplugin.backends import Gpu, Reading
from arbiter_deviceplugin.gpunode import NodeFacts, node_status, without_use
from arbiter_deviceplugin.matching import ListedContainer
from arbiter_deviceplugin.slices import SliceId
from arbiter_kube.api.gpunode import GpuNodeStatus, GrantOnNode, GrantState, SliceCount
from arbiter_kube.api.objects import ObjectKey
from tests.unit.extender.builders import a_pod, uid

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
POD = a_pod("chat").bound("n1", "a").pod

GRANT = GrantStatus(
    uid=uid("chat"),
    name="team/chat",
    gpus=(GpuUuid("a"),),
    start=1,
    revision=2,
    quality=Fraction("0.904"),
    granted=9256 * MIB,
    held=10 * GIB,
    acknowledged=1,
    applied=10 * GIB,
    measured=None,
    movable=True,
    state=EngineState.MOVABLE,
    waiting=False,
    gone=False,
)

FACTS = NodeFacts(
    version="0.1.0",
    boot_id="boot",
    vendor="simulated",
    unit=GIB,
    wanted_unit=GIB,
    reading=Reading(gpus=(Gpu(uuid=GpuUuid("a"), index=0, name="SIM", total=12 * GIB, reserved=0, used=9300 * MIB),)),
    grants=(GRANT,),
    pods={uid("chat"): POD},
    listed=(
        ListedContainer(ObjectKey("team", "chat"), "main", frozenset({SliceId("a::0"), SliceId("a::1")})),
        ListedContainer(ObjectKey("team", "web"), "main"),
    ),
    foreign=(),
)


def status(facts: NodeFacts = FACTS, *, before: GpuNodeStatus | None = None, now: datetime = NOW) -> GpuNodeStatus:
    return node_status(facts, before=before, now=now)


def conditions(facts: NodeFacts) -> dict[str, str]:
    return {condition.type: condition.status for condition in status(facts).conditions}


def test_a_grant_is_told_with_what_it_may_hold_and_what_it_uses() -> None:
    used = replace(FACTS, reading=replace(FACTS.reading, use={"team/chat": 9300 * MIB}))

    assert status(used).grants == [
        GrantOnNode(
            pod_uid=uid("chat"),
            namespace="team",
            pod="chat",
            container="main",
            gpus=["a"],
            granted=9256 * MIB,
            quality=0.904,
            held=10 * GIB,
            applied=10 * GIB,
            measured=9216 * MIB,
            movable=True,
            revision=2,
            state=GrantState.MOVABLE,
            waiting=False,
        )
    ]


def test_a_container_that_a_node_sees_using_nothing_is_measured_and_not_trusted() -> None:
    seen = status(replace(FACTS, reading=replace(FACTS.reading, use={})))
    unseen = status()

    assert (seen.grants[0].measured, seen.gpus[0].confirmation) == (0, "measured")
    assert (unseen.grants[0].measured, unseen.gpus[0].confirmation) == (None, "trust")


def test_a_container_that_was_told_nothing_yet_has_no_grant() -> None:
    gated = replace(GRANT, granted=0, held=0, revision=0, quality=None, state=EngineState.GATED)

    (grant,) = status(replace(FACTS, grants=(gated,))).grants

    assert (grant.granted, grant.revision, grant.quality, grant.state) == (None, None, None, GrantState.GATED)


def test_slices_are_those_that_the_kubelet_lists() -> None:
    assert status().slices == [SliceCount(namespace="team", pod="chat", container="main", gpu="a", slices=2)]


def test_the_summary_adds_up() -> None:
    summary = status().summary

    assert (summary.usable, summary.floors, summary.granted, summary.used) == ("12Gi", "4Gi", "9256Mi", "9Gi")


def test_use_within_one_step_changes_nothing() -> None:
    gpu = FACTS.reading.gpus[0]
    a_little_more = replace(FACTS, reading=Reading(gpus=(replace(gpu, used=9400 * MIB),)))

    assert status(a_little_more) == status()


def test_a_change_of_use_alone_can_be_told_from_any_other() -> None:
    gpu = FACTS.reading.gpus[0]
    more = replace(FACTS, reading=Reading(gpus=(replace(gpu, used=11 * GIB),)))
    lost = replace(FACTS, reading=Reading(gpus=(replace(gpu, healthy=False),)))

    assert without_use(status(more)) == without_use(status())
    assert without_use(status(lost)) != without_use(status())


def test_conditions_keep_the_time_of_their_last_transition() -> None:
    before = status()
    later = status(replace(FACTS, foreign=("nvidia.com/gpu",)), before=before, now=NOW + timedelta(hours=1))

    since = {condition.type: condition.last_transition_time for condition in later.conditions}
    changed, unchanged = (NOW + timedelta(hours=1)).replace(microsecond=0), NOW.replace(microsecond=0)
    assert since == {"Ready": changed, "Conflict": changed, "UnitMismatch": unchanged, "Overcommitted": unchanged}


def test_a_gpu_that_shrank_below_what_is_held_is_overcommitted() -> None:
    shrunk = replace(FACTS.reading.gpus[0], total=9 * GIB)

    assert conditions(FACTS)["Overcommitted"] == "False"
    assert conditions(replace(FACTS, reading=Reading(gpus=(shrunk,))))["Overcommitted"] == "True"


def test_the_gpus_that_are_offered_are_counted() -> None:
    another = replace(FACTS.reading.gpus[0], uuid=GpuUuid("b"), index=1)
    both = replace(FACTS, reading=Reading(gpus=(*FACTS.reading.gpus, another)))

    assert [status(facts).conditions[0].message for facts in (FACTS, both)] == [
        "1 GPU is offered to containers.",
        "2 GPUs are offered to containers.",
    ]
