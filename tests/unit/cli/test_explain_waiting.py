"""`arbiter explain pod/…` of pods that have no GPU yet: why, and what would let them in."""

import pytest

from arbiter_cli.explain.several import explain_one
from arbiter_cli.explain.text import as_text
from arbiter_cli.explain.waiting import WaitingExplanation
from arbiter_cli.printing import as_data
from arbiter_kube.api.objects import ObjectKey
from tests.unit.cli.cluster import Site, demo

NO_ROOM = "0/1 nodes are available: 1 no GPU with room for the floor."


def explained(site: Site, key: str) -> WaitingExplanation:
    snapshot = site.snapshot()
    pod = snapshot.pods[ObjectKey(*key.split("/"))]
    answer = explain_one(snapshot, pod)
    assert isinstance(answer, WaitingExplanation)
    return answer


def important() -> Site:
    """A critical pod waits for what one of low priority has."""
    site = Site().node().pod("b/y", priority="Low", full="6Gi", floor="6Gi", target=("1.000", 6144))
    return site.pod("a/x", priority="Critical", floor="9Gi", unschedulable=NO_ROOM)


ANSWERS = {
    "what is missing, how long it may wait, and each way in with its consequences": (
        demo(),
        "team-c/render-0",
        "Waits for 41s: needs 10Gi on one GPU; gpu-1/0 has 6Gi, and 10Gi once team-a/chat (High) ends.\n"
        "Timeout 1m30s: then it is told so, and stays queued.\n"
        "Low may preempt nobody here: that takes members two levels below it.\n"
        "What would let it in (each line computed by the solver):\n"
        "  team-a/chat (High) ends  would get 0.420 (10338Mi) on gpu-1/0; team-b/posters 1.000 -> 0.315\n"
        "  vram.floor 6Gi           would get 0.416 (6144Mi) on gpu-1/0; "
        "team-a/chat 0.904 -> 0.420, team-b/posters 0.493 -> 0.300",
    ),
    "whom the operator evicts for it": (
        important(),
        "a/x",
        "Waits for 6m: needs 9Gi on one GPU; gpu-1/0 has 6Gi, and 12Gi once b/y (Low) ends.\n"
        "Timeout 1m0s: is over; it stays queued.\n"
        "Critical may preempt: the operator evicts b/y (Low) from gpu-1/0 for it.\n"
        "What would let it in (each line computed by the solver):\n"
        "  b/y (Low) ends  would get 1.000 (10240Mi) on gpu-1/0\n"
        "  vram.floor 6Gi  would get 0.900 (6144Mi) on gpu-1/0",
    ),
    "that a policy keeps others from being evicted": (
        important().policy(preemption=False),
        "a/x",
        "Waits for 6m: needs 9Gi on one GPU; gpu-1/0 has 6Gi, and 12Gi once b/y (Low) ends.\n"
        "Timeout 1m0s: is over; it stays queued.\n"
        "Nobody is evicted for it: policy default has preemption off.\n"
        "What would let it in (each line computed by the solver):\n"
        "  b/y (Low) ends  would get 1.000 (10240Mi) on gpu-1/0\n"
        "  vram.floor 6Gi  would get 0.900 (6144Mi) on gpu-1/0",
    ),
    "from which priority on others would be evicted": (
        Site()
        .node()
        .pod("b/y", priority="Low", full="6Gi", floor="6Gi", target=("1.000", 6144))
        .pod("a/x", priority="Normal", floor="10Gi", unschedulable=NO_ROOM),
        "a/x",
        "Waits for 6m: needs 10Gi on one GPU; gpu-1/0 has 6Gi, and 12Gi once b/y (Low) ends.\n"
        "Timeout 30s: is over; it stays queued.\n"
        "Normal may preempt nobody here: that takes members two levels below it.\n"
        "What would let it in (each line computed by the solver):\n"
        "  b/y (Low) ends  would get 1.000 (10240Mi) on gpu-1/0\n"
        "  vram.full 6Gi   would get 1.000 (6144Mi) on gpu-1/0\n"
        "  priority High   evicts b/y (Low) from gpu-1/0",
    ),
    "that it is larger than any GPU": (
        Site().node().pod("a/x", full="20Gi", floor="19Gi", unschedulable=NO_ROOM),
        "a/x",
        "Waits for 6m: needs 19Gi on one GPU; the largest, gpu-1/0, has 12Gi in all.\n"
        "Timeout 45s: is over; it stays queued.\n"
        "High may preempt nobody here: that takes members two levels below it.\n"
        "What would let it in (each line computed by the solver):\n"
        "  vram.floor 12Gi  would get 0.950 (12288Mi) on gpu-1/0",
    ),
    "that there is room by now": (
        Site().node().pod("a/x", unschedulable="0/1 nodes are available: 1 Insufficient cpu."),
        "a/x",
        "Has waited for 6m, and there is room now: arbiter-scheduler is asked again every 5s.\n"
        "What kube-scheduler says: 0/1 nodes are available: 1 Insufficient cpu.",
    ),
    "that no scheduler has looked at it": (
        Site().node().pod("a/x"),
        "a/x",
        "arbiter-scheduler has not looked at it for 6m; if it lasts: arbiter doctor.\nIt needs 4Gi on one GPU.",
    ),
    "that there are no GPUs at all": (
        Site().pod("a/x", unschedulable="0/0 nodes are available."),
        "a/x",
        "Waits for 6m: needs 4Gi on one GPU; no node that takes it reports a healthy GPU.\n"
        "Timeout 45s: is over; it stays queued.\n"
        "High may preempt nobody here: that takes members two levels below it.",
    ),
}


@pytest.mark.parametrize(("site", "key", "answer"), ANSWERS.values(), ids=ANSWERS.keys())
def test_a_waiting_pod_is_told(site: Site, key: str, answer: str) -> None:
    assert as_text(explained(site, key)) == answer


def test_the_same_for_machines() -> None:
    data = as_data(explained(demo(), "team-c/render-0"))
    assert [way["change"] for way in data.pop("ways")] == ["team-a/chat (High) ends", "vram.floor 6Gi"]
    assert data == {
        "pod": "team-c/render-0",
        "headline": "Waits for 41s: needs 10Gi on one GPU; gpu-1/0 has 6Gi, and 10Gi once team-a/chat (High) ends.",
        "why": [
            "Timeout 1m30s: then it is told so, and stays queued.",
            "Low may preempt nobody here: that takes members two levels below it.",
        ],
        "waits": 41.0,
        "floor": 10 << 30,
        "full": 24 << 30,
        "shortage": "needs 10Gi on one GPU; gpu-1/0 has 6Gi, and 10Gi once team-a/chat (High) ends",
        "events": [],
    }
