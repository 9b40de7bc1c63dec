from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from arbiter.demand import NO_POLICY
from arbiter.ids import NodeName
from arbiter.units import MIB
from arbiter_kube.api.fields import Condition
from arbiter_kube.api.gpuallocation import (
    GpuAllocation,
    GpuAllocationStatus,
    GrantQuality,
    GrantSummary,
    GrantVram,
    ResolvedDemand,
)
from arbiter_kube.api.gpunode import GrantState
from arbiter_operator.demands import DemandChange
from arbiter_operator.placeable import Prospect
from arbiter_operator.status import allocation_status
from arbiter_operator.view import PodView
from arbiter_operator.waiting import Waiting
from tests.unit.operator.builders import allocation, gpu_pod, on_node, target

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
CHAT = gpu_pod(grant=target("0.904", 9256, revision=2))
RUNNING = PodView(
    pod=CHAT,
    grant=on_node(CHAT, 9256, quality=0.904, measured=8702 * MIB),
    where="gpu-1/0",
    mates=("team-b/posters",),
    applied_after=0.27,
)
BIG = gpu_pod("render-0", node=None)
WAITING = PodView(
    pod=BIG,
    waiting=Waiting(pod=BIG, since=NOW.timestamp() - 30, woken_at=None, timeout=120.0),
    shortage="needs 10Gi on one GPU; gpu-1/0 has 6Gi",
)


def status(
    *pods: PodView,
    of: GpuAllocation | None = None,
    edits: tuple[DemandChange, ...] = (),
    prospect: Prospect | None = None,
    preempted: str | None = None,
    now: datetime = NOW,
) -> GpuAllocationStatus:
    return allocation_status(
        of or allocation(),
        pods,
        edits=edits,
        defaults=NO_POLICY,
        prospect=prospect,
        preempted=preempted,
        now=now,
    )


def said(of: GpuAllocationStatus, kind: str) -> tuple[str, str, str]:
    condition = next(condition for condition in of.conditions if condition.type == kind)
    return condition.status, condition.reason, condition.message


def test_the_status_of_a_pod_that_shares_its_gpu() -> None:
    def condition(kind: str, truth: str, reason: str, message: str) -> Condition:
        return Condition.model_validate(
            {
                "type": kind,
                "status": truth,
                "reason": reason,
                "message": message,
                "lastTransitionTime": NOW,
                "observedGeneration": 1,
            }
        )

    assert status(RUNNING) == GpuAllocationStatus(
        phase="Reduced",
        observed_generation=1,
        pods="1/1",
        quality=0.904,
        resolved=ResolvedDemand(full="10Gi", floor="4Gi", minimum=0.4, maximum=1.0),
        grants=[
            GrantSummary(
                pod_uid="uid-chat-0",
                pod="chat-0",
                node="gpu-1",
                gpus=["GPU-0"],
                quality=GrantQuality(target=0.904, granted=0.904, applied=0.904),
                vram=GrantVram(target="9256Mi", granted="9256Mi", held="9256Mi", measured="8702Mi"),
                revision=2,
                since="2026-01-01T12:00:00Z",
            )
        ],
        conditions=[
            condition("Accepted", "True", "Valid", "full 10Gi at quality 1.000, floor 4Gi at 0.400"),
            condition("Placed", "True", "Placed", "1 pod on gpu-1/0"),
            condition(
                "QualityMet",
                "True",
                "AboveMinimum",
                "0.904 of 1.000, minimum 0.400: 1 pod shares gpu-1/0 with team-b/posters",
            ),
            condition("Converged", "True", "Applied", "revision 2 applied 0.27s after it was written"),
            condition("TimedOut", "False", "InTime", "no pod waits longer than its timeout"),
            condition("RestartNeeded", "False", "UpToDate", "every pod has the demand that is written here"),
        ],
    )


def test_times_are_kept_where_nothing_changes() -> None:
    known = allocation().model_copy(update={"status": status(RUNNING)})
    assert status(RUNNING, of=known, now=NOW + timedelta(hours=1)) == known.status


def test_a_new_revision_has_a_new_time_and_an_old_condition_its_old_one() -> None:
    known = allocation().model_copy(update={"status": status(RUNNING)})
    pod = replace(CHAT, grant=target("1.000", 10240, revision=3))
    later = status(replace(RUNNING, pod=pod), of=known, now=NOW + timedelta(hours=1))
    assert later.grants[0].since == "2026-01-01T13:00:00Z"
    times = {condition.type: condition.last_transition_time for condition in later.conditions}
    assert times["Converged"] == NOW + timedelta(hours=1)
    assert times["QualityMet"] == NOW


def test_how_long_it_took_is_kept_when_a_new_process_does_not_know() -> None:
    known = allocation().model_copy(update={"status": status(RUNNING)})
    assert status(replace(RUNNING, applied_after=None), of=known) == known.status


PHASES = {
    "without pods": ((), "Pending"),
    "a pod that was just created": ((PodView(pod=BIG),), "Pending"),
    "a pod that kube-scheduler refused": ((WAITING,), "Waiting"),
    "a bound pod without a grant": ((PodView(pod=CHAT),), "Pending"),
    "below maximum": ((RUNNING,), "Reduced"),
    "at maximum": ((replace(RUNNING, grant=on_node(CHAT, 10240, quality=1.0)),), "Running"),
    "the worst of several": ((RUNNING, WAITING), "Waiting"),
}


@pytest.mark.parametrize(("pods", "expected"), PHASES.values(), ids=PHASES)
def test_phases(pods: tuple[PodView, ...], expected: str) -> None:
    assert status(*pods).phase == expected


SENTENCES = {
    "nobody names it": ((), "Placed", ("False", "NoPods", "no pod names this allocation yet")),
    "no room": (
        (WAITING,),
        "Placed",
        ("False", "InsufficientMemory", "render-0 needs 10Gi on one GPU; gpu-1/0 has 6Gi"),
    ),
    "room that is not taken yet": (
        (replace(WAITING, shortage=""),),
        "Placed",
        ("False", "Scheduling", "1 pod not scheduled yet"),
    ),
    "not scheduled yet": ((PodView(pod=BIG),), "Placed", ("False", "Scheduling", "1 pod not scheduled yet")),
    "several on one node": (
        (RUNNING, replace(RUNNING, where="gpu-1/1")),
        "Placed",
        ("True", "Placed", "2 pods on gpu-1"),
    ),
    "several on several nodes": (
        (RUNNING, replace(RUNNING, pod=replace(CHAT, node=NodeName("gpu-2")))),
        "Placed",
        ("True", "Placed", "2 pods on 2 nodes"),
    ),
    "alone": (
        (replace(RUNNING, mates=()),),
        "QualityMet",
        ("True", "AboveMinimum", "0.904 of 1.000, minimum 0.400: 1 pod is alone on gpu-1/0"),
    ),
    "many neighbours": (
        (replace(RUNNING, mates=tuple(f"team-b/{letter}" for letter in "abcde")),),
        "QualityMet",
        (
            "True",
            "AboveMinimum",
            "0.904 of 1.000, minimum 0.400: 1 pod shares gpu-1/0 with team-b/a, team-b/b, team-b/c and 2 more",
        ),
    ),
    "several pods": (
        (RUNNING, replace(RUNNING, pod=replace(CHAT, name="chat-1"), grant=on_node(CHAT, 10240, quality=1.0))),
        "QualityMet",
        (
            "True",
            "AboveMinimum",
            "0.904 of 1.000, minimum 0.400: the lowest of 2 pods shares gpu-1/0 with team-b/posters",
        ),
    ),
    "below its minimum": (
        (replace(RUNNING, grant=on_node(CHAT, 3000, quality=0.3)),),
        "QualityMet",
        (
            "False",
            "InsufficientQuality",
            "0.300 of 1.000, minimum 0.400: 1 pod shares gpu-1/0 with team-b/posters",
        ),
    ),
    "on its way": (
        (replace(RUNNING, grant=on_node(CHAT, 10240, quality=1.0)),),
        "Converged",
        ("False", "Applying", "chat-0 goes to 0.904 (9256Mi); granted 10240Mi, may hold 10240Mi"),
    ),
    "not granted": (
        (PodView(pod=CHAT),),
        "Converged",
        ("False", "Applying", "chat-0 goes to 0.904 (9256Mi); its node has granted nothing yet"),
    ),
    "sized at its start": (
        (replace(RUNNING, grant=on_node(CHAT, 10240, state=GrantState.HELD), applied_after=None),),
        "Converged",
        ("True", "Applied", "revision 2 applied"),
    ),
    "no memory": ((), "Converged", ("Unknown", "NoGrant", "no pod has memory yet")),
}


@pytest.mark.parametrize(("pods", "kind", "expected"), SENTENCES.values(), ids=SENTENCES)
def test_sentences(pods: tuple[PodView, ...], kind: str, expected: tuple[str, str, str]) -> None:
    assert said(status(*pods), kind) == expected


def test_a_wait_that_is_too_long_is_told() -> None:
    late = status(WAITING, now=NOW + timedelta(seconds=90))
    waits = "render-0 still waiting after 2m0s; stays queued"
    assert said(late, "TimedOut") == ("True", "Timeout", f"{waits}: needs 10Gi on one GPU; gpu-1/0 has 6Gi")
    room = status(replace(WAITING, shortage=""), now=NOW + timedelta(seconds=90))
    assert said(room, "TimedOut") == ("True", "Timeout", waits)
    assert said(status(WAITING), "TimedOut")[0] == "False"


def test_a_pod_that_has_to_be_restarted_is_told() -> None:
    stale = DemandChange(pod=CHAT, restart="reserved 4Gi, floor 6Gi is asked for")
    assert said(status(RUNNING, edits=(stale,)), "RestartNeeded") == (
        "True",
        "DemandChanged",
        "chat-0 reserved 4Gi, floor 6Gi is asked for; restart to apply",
    )


def test_a_contradiction_is_not_accepted_and_resolves_to_nothing() -> None:
    wrong = status(of=allocation(quality={"minimum": 0.1}))
    assert said(wrong, "Accepted") == (
        "False",
        "InvalidDemand",
        "spec.quality.minimum 0.100 is below 0.400, the least quality of LlmInference; raise it or leave it out.",
    )
    assert wrong.resolved is None


def test_only_the_sixteen_lowest_grants_are_listed() -> None:
    pods = [gpu_pod(f"chat-{index:02}", grant=target("1.000", 10240)) for index in range(20)]
    views = [PodView(pod=pod, grant=on_node(pod, 10240, quality=1.0 - index / 100)) for index, pod in enumerate(pods)]
    assert [grant.pod for grant in status(*views).grants] == [f"chat-{index:02}" for index in range(19, 3, -1)]
    assert status(*views).pods == "20/20"


def test_a_fixed_demand_is_told_without_a_floor() -> None:
    fixed = allocation(vram={"full": "10Gi", "floor": "10Gi"}, quality={})
    assert said(status(of=fixed), "Accepted")[2] == "full 10Gi at quality 1.000"


def test_an_eviction_is_told_until_a_pod_has_memory_again() -> None:
    by = "chat-0 was evicted for team-c/big (Critical), which needs 10Gi on gpu-1/0"
    leaving = replace(RUNNING, pod=replace(CHAT, terminating=True))
    evicted = status(leaving, preempted=by)
    assert (evicted.phase, said(evicted, "Placed")) == ("Preempted", ("False", "Preempted", by))
    remembered = allocation().model_copy(update={"status": evicted})
    for pods in ((), (WAITING,)):
        later = status(*pods, of=remembered)
        assert (later.phase, said(later, "Placed")) == ("Preempted", ("False", "Preempted", by))
    again = status(RUNNING, of=remembered)
    assert (again.phase, said(again, "Placed")[1]) == ("Reduced", "Placed")
    assert said(status(RUNNING, preempted=by), "Placed")[1] == "Placed", "another pod of it has memory"


def test_an_allocation_that_nobody_uses_says_where_a_pod_would_go() -> None:
    unused = status(prospect=Prospect(True, "would get 1.000 (10240Mi) on gpu-1/0"))
    assert said(unused, "Placeable") == ("True", "Fits", "would get 1.000 (10240Mi) on gpu-1/0")
    missing = "needs 4Gi on one GPU; gpu-1/0 has 2Gi"
    assert said(status(prospect=Prospect(False, missing)), "Placeable") == ("False", "InsufficientMemory", missing)
    assert "Placeable" not in {condition.type for condition in status(RUNNING).conditions}
