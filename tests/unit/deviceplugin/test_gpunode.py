"""What the node says of itself."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from prometheus_client import CollectorRegistry

from arbiter.ids import GpuUuid, NodeName
from arbiter.transitions import GrantState as EngineState
from arbiter.transitions import GrantStatus
from arbiter.units import GIB, MIB
from arbiter_deviceplugin.backends import Gpu, Reading
from arbiter_deviceplugin.enforcement import Enforcement
from arbiter_deviceplugin.gpunode import NodeFacts, node_status, unreadable_status, without_use
from arbiter_deviceplugin.matching import ListedContainer
from arbiter_deviceplugin.metrics import NodeCollector
from arbiter_deviceplugin.monitor import Monitor
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
    rungs={},
)


def using(use: Mapping[str, int], facts: NodeFacts = FACTS) -> NodeFacts:
    """The same, where pods were seen to use so much of the GPU."""
    return replace(facts, reading=Reading(gpus=(replace(facts.reading.gpus[0], use=use),)))


def status(facts: NodeFacts = FACTS, *, before: GpuNodeStatus | None = None, now: datetime = NOW) -> GpuNodeStatus:
    return node_status(facts, before=before, now=now)


def conditions(facts: NodeFacts) -> dict[str, str]:
    return {condition.type: condition.status for condition in status(facts).conditions}


def test_a_grant_is_told_with_what_it_may_hold_and_what_it_uses() -> None:
    assert status(using({"team/chat": 9300 * MIB})).grants == [
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
    seen = status(using({}))
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
    assert since == {
        "Ready": changed,
        "Conflict": changed,
        "UnitMismatch": unchanged,
        "Overcommitted": unchanged,
        "MeasuredAboveGrant": unchanged,
    }


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


def test_what_is_left_out_is_said_where_people_look_whether_all_is_well() -> None:
    left_out = replace(FACTS, reading=replace(FACTS.reading, left_out=("GPU 1 (b) is in MIG mode",)))

    assert status(left_out).conditions[0].message == "1 GPU is offered to containers; GPU 1 (b) is in MIG mode."


def test_the_summary_names_the_rung_that_holds_on_every_gpu() -> None:
    gpu = replace(FACTS.reading.gpus[0], links=(GpuUuid("b"),))
    both = replace(FACTS, reading=Reading(gpus=(gpu, replace(gpu, uuid=GpuUuid("b"), index=1, links=()))))
    made = status(replace(both, rungs={GpuUuid("a"): Enforcement.DMEM, GpuUuid("b"): Enforcement.MONITOR}))

    assert [(gpu.enforcement, gpu.links) for gpu in made.gpus] == [("dmem", ["b"]), ("monitor", [])]
    assert made.summary.enforcement == "monitor"
    assert status().summary.enforcement == "none"


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        pytest.param(10 * GIB + 64 * MIB, ("False", "WithinGrants"), id="within the tolerance of what it may hold"),
        pytest.param(10 * GIB + 65 * MIB, ("True", "Offenders"), id="beyond it"),
    ],
)
def test_a_container_is_an_offender_when_it_uses_more_than_it_may_hold(use: int, expected: tuple[str, str]) -> None:
    condition = status(using({"team/chat": use})).conditions[-1]

    assert (condition.type, condition.status, condition.reason) == ("MeasuredAboveGrant", *expected)


def test_offenders_are_named_with_their_gpus_and_without_figures_that_change_all_the_time() -> None:
    message = "more memory than they may hold is used by team/chat (on a)."

    assert [status(using({"team/chat": use})).conditions[-1].message for use in (11 * GIB, 12 * GIB)] == [message] * 2


def test_where_nobody_can_tell_who_uses_what_nobody_is_said_to_keep_to_their_grants() -> None:
    condition = status().conditions[-1]

    assert (condition.status, condition.reason) == ("Unknown", "NotMeasured")


def test_static_pods_are_measured_by_the_uid_that_their_kubelet_gave_them() -> None:
    mirrored = replace(FACTS, pods={uid("chat"): replace(POD, local_uid="0" * 32)})

    assert status(using({"0" * 32: 3 * GIB}, mirrored)).grants[0].measured == 3 * GIB


def test_an_offender_is_told_of_when_it_begins_and_again_when_it_begins_anew() -> None:
    monitor = Monitor(NodeName("n1"))
    told = []
    for use in (1, 11, 12, 1, 11):
        facts = using({"team/chat": use * GIB})
        told.append([notice.message for notice in monitor.look(facts.grants, facts.pods, facts.reading)])

    sentence = "uses 11264Mi of a on n1 and may hold 10240Mi: it takes memory that was promised to others."
    assert told == [[], [sentence], [], [], [sentence]]


def scraped(facts: NodeFacts) -> dict[tuple[str, ...], float]:
    """What Prometheus gets, by name and the values of the labels."""
    registry = CollectorRegistry()
    registry.register(NodeCollector(NodeName("n1"), lambda: facts))
    return {
        (sample.name, *sample.labels.values()): sample.value
        for metric in registry.collect()
        for sample in metric.samples
    }


def test_metrics_tell_memory_by_its_use_and_who_takes_too_much() -> None:
    assert scraped(using({"team/chat": 11 * GIB})) == {
        ("arbiter_gpu_vram_bytes", "n1", "a", "usable"): 12 * GIB,
        ("arbiter_gpu_vram_bytes", "n1", "a", "floors"): 4 * GIB,
        ("arbiter_gpu_vram_bytes", "n1", "a", "granted"): 9256 * MIB,
        ("arbiter_gpu_vram_bytes", "n1", "a", "held"): 10 * GIB,
        ("arbiter_gpu_vram_bytes", "n1", "a", "used"): 9300 * MIB,
        ("arbiter_gpu_healthy", "n1", "a", "0", "SIM"): 1,
        ("arbiter_node_condition", "n1", "Ready"): 1,
        ("arbiter_node_condition", "n1", "Conflict"): 0,
        ("arbiter_node_condition", "n1", "UnitMismatch"): 0,
        ("arbiter_node_condition", "n1", "Overcommitted"): 0,
        ("arbiter_node_condition", "n1", "MeasuredAboveGrant"): 1,
        ("arbiter_pod_vram_bytes", "n1", "a", "team", "chat", "full"): 10 * GIB,
        ("arbiter_pod_vram_bytes", "n1", "a", "team", "chat", "floor"): 4 * GIB,
        ("arbiter_pod_vram_bytes", "n1", "a", "team", "chat", "granted"): 9256 * MIB,
        ("arbiter_pod_vram_bytes", "n1", "a", "team", "chat", "held"): 10 * GIB,
        ("arbiter_pod_vram_bytes", "n1", "a", "team", "chat", "used"): 11 * GIB,
        ("arbiter_grant_state", "n1", "team", "chat", "Movable"): 1,
        ("arbiter_measured_above_grant_bytes", "n1", "team", "chat"): GIB,
    }


def test_metrics_count_a_pod_and_its_predecessor_of_the_same_name_together() -> None:
    gone = replace(GRANT, uid=uid("gone"), held=2 * GIB, granted=0, gone=True)
    waits = replace(GRANT, granted=0, held=0, state=EngineState.GATED, waiting=True)

    told = scraped(replace(FACTS, grants=(gone, waits)))

    pod = ("n1", "team", "chat")
    assert told["arbiter_pod_vram_bytes", "n1", "a", "team", "chat", "held"] == 2 * GIB
    assert [key for key in told if key[1:4] == pod] == [
        ("arbiter_grant_state", *pod, "Movable"),
        ("arbiter_grant_state", *pod, "Gated"),
        ("arbiter_floor_waiting", *pod),
    ]


READY = {
    "every GPU": (FACTS, ("True", "1 GPU is offered to containers.")),
    "none, while others offer them": (
        replace(FACTS, foreign=("nvidia.com/gpu",)),
        ("False", "no VRAM is offered, because others offer the same GPUs: nvidia.com/gpu."),
    ),
    "those that were said to be ours, whatever others offer": (
        replace(FACTS, foreign=("nvidia.com/gpu",), devices=("0",)),
        ("True", "1 GPU is offered to containers."),
    ),
    "none that is not healthy": (
        replace(
            FACTS,
            reading=Reading(gpus=(replace(FACTS.reading.gpus[0], healthy=False, reason="lost."),), left_out=("x",)),
        ),
        ("False", "0 GPUs are offered to containers; GPU 0 is not healthy: lost; x."),
    ),
    "none, where the kubelet would not take the list": (
        replace(FACTS, unit=MIB, reading=Reading(gpus=(replace(FACTS.reading.gpus[0], total=192 * GIB),))),
        (
            "False",
            "no VRAM is offered, because slices of 1Mi are 196608 here, and the kubelet takes 60000; "
            "set a larger --vram-unit.",
        ),
    ),
}


@pytest.mark.parametrize(("facts", "said"), READY.values(), ids=READY.keys())
def test_a_node_offers(facts: NodeFacts, said: tuple[str, str]) -> None:
    (ready,) = (c for c in status(facts).conditions if c.type == "Ready")
    assert (ready.status, ready.message) == said


def test_a_node_whose_gpus_cannot_be_read_yet_says_so_beside_what_was_known() -> None:
    before = status()
    later = NOW + timedelta(minutes=5)

    said = unreadable_status(before, why="driver away.", now=later)

    assert said.model_copy(update={"conditions": []}) == before.model_copy(update={"conditions": []})
    ready, *others = said.conditions
    assert (ready.type, ready.status, ready.message) == (
        "Ready",
        "False",
        "no VRAM is offered, because no GPU can be read: driver away.",
    )
    assert ready.last_transition_time == later.replace(microsecond=0)
    assert others == before.conditions[1:]
    assert unreadable_status(said, why="driver away.", now=later + timedelta(minutes=1)) == said
    assert [c.type for c in unreadable_status(None, why="driver away.", now=NOW).conditions] == ["Ready"]


def test_a_node_says_what_keeps_containers_from_others_gpus() -> None:
    assert [status(facts).gpus[0].isolation for facts in (FACTS, replace(FACTS, isolation="cdi"))] == ["none", "cdi"]
