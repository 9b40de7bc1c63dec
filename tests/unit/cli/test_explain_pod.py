"""`arbiter explain pod/…` of pods that have a GPU: whole answers, from the objects of a cluster."""

import json

import pytest

from arbiter_cli.explain.events import happenings
from arbiter_cli.explain.pod import PodExplanation
from arbiter_cli.explain.several import explain_one
from arbiter_cli.explain.text import as_text
from arbiter_cli.printing import as_data
from arbiter_kube.api.objects import Event, ObjectKey
from tests.unit.cli.cluster import Site, demo, event


def explained(site: Site, key: str, *events: Event) -> PodExplanation:
    snapshot = site.snapshot()
    pod = snapshot.pods[ObjectKey(*key.split("/"))]
    answer = explain_one(snapshot, pod, events=happenings(events, now=snapshot.at))
    assert isinstance(answer, PodExplanation)
    return answer


def text(site: Site, key: str, *events: Event) -> str:
    return as_text(explained(site, key, *events))


def posters(site: Site, key: str = "b/y", **more: object) -> Site:
    fields = {"kind": "ImageGeneration", "priority": "Background", "full": "6Gi", "floor": "1843Mi"}
    return site.pod(key, **{**fields, "target": ("0.493", 3028), **more})  # type: ignore[arg-type] # fields of any type


def test_a_pod_that_shares_its_gpu_is_told_with_whom_why_and_what_would_change_it() -> None:
    told = event("uid", "QualityReduced", "1.000 -> 0.904 (9256Mi): team-b/posters (Background) joined gpu-1/0")
    pulled = event("uid", "Pulled", "Container image already present")
    assert text(demo(), "team-a/chat-x2k8q", told, pulled) == (
        "Quality 0.904, 9256Mi on gpu-1/0, revision 2, applied.\n"
        "Why not 1.000: full sizes add up to 16.0 GiB, 12.0 are usable. Price 0.356 (High), mode Adaptive.\n"
        "  team-a/chat     High        floor  4.0  full 10.0  has  9.04 GiB  0.904\n"
        "  team-b/posters  Background  floor  1.8  full  6.0  has  2.96 GiB  0.493\n"
        "Revision 2, 2m ago: team-b/posters (Background) joined gpu-1/0.\n"
        "What would change it (each line computed by the solver):\n"
        "  team-b/posters leaves    1.000\n"
        "  13.3 GiB usable          1.000 (team-b/posters 0.550)\n"
        "  priority Critical        0.923 (team-b/posters 0.461)\n"
        "  mode LlmFirst            0.926 (team-b/posters 0.455)\n"
        "  mode DiffusionFirst      0.780 (team-b/posters 0.700)\n"
        "  mode Balanced            0.801 (team-b/posters 0.664)\n"
        "  one more team-a/chat     0.510 (team-b/posters 0.300)\n"
        "  one more team-b/posters  0.725 (team-b/posters 0.395 each)\n"
        "What happened, latest first:\n"
        "  2m  QualityReduced  1.000 -> 0.904 (9256Mi): team-b/posters (Background) joined gpu-1/0\n"
        "Never below 0.400 (4.0 GiB) while the pod lives."
    )


def test_the_same_for_machines() -> None:
    data = as_data(explained(demo(), "team-a/chat-x2k8q"))
    json.dumps(data)
    changes = {change["change"]: change for change in data.pop("changes")}
    assert changes["team-b/posters leaves"]["quality"] == 1.0
    assert changes["one more team-b/posters"]["others"] == [
        {"who": "team-b/posters", "pods": 2, "before": 0.493, "after": 0.395, "alike": True}
    ]
    assert round(data.pop("price"), 4) == 0.3561
    assert data.pop("members")[1] == {
        "who": "team-b/posters",
        "priority": "Background",
        "floor": 1843 << 20,
        "full": 6 << 30,
        "has": 3028 << 20,
        "quality": 0.493,
        "remark": "",
    }
    assert data == {
        "pod": "team-a/chat-x2k8q",
        "standing": "Applied",
        "headline": "Quality 0.904, 9256Mi on gpu-1/0, revision 2, applied.",
        "why": [
            "Why not 1.000: full sizes add up to 16.0 GiB, 12.0 are usable. Price 0.356 (High), mode Adaptive.",
        ],
        "quality": 0.904,
        "vram": 9256 << 20,
        "granted": 9256 << 20,
        "held": 9256 << 20,
        "measured": 8702 << 20,
        "minimum": 0.4,
        "maximum": 1.0,
        "floor": 4 << 30,
        "full": 10 << 30,
        "gpus": ["gpu-1/0"],
        "revision": 2,
        "reason": "team-b/posters (Background) joined gpu-1/0",
        "decided": 120.0,
        "pressure": "High",
        "mode": "Adaptive",
        "policy": "default",
        "closing": "Never below 0.400 (4.0 GiB) while the pod lives.",
        "events": [],
    }


def two_gpus() -> Site:
    site = Site().node("gpu-1", "12Gi", "12Gi").pod("a/x", target=("0.712", 7290), gpus=("gpu-1-0", "gpu-1-1"))
    posters(site, target=("0.827", 4970))
    return posters(site, "b/z", priority="Normal", full="8Gi", target=("0.647", 4990), gpus=("gpu-1-1",))


LATE = posters(Site().node().pod("a/x", target=("0.904", 9256), held=10240, state="Overdue"), state="Gated", granted=0)
STARTS = Site().node().pod("a/x", target=("1.000", 10240), state="Held")

OPENINGS = {
    "alone on its GPU it has all": (
        Site().node().pod("a/x", target=("1.000", 10240)),
        "a/x",
        "Quality 1.000, 10240Mi on gpu-1/0, revision 1, applied.\n"
        "Nobody has to give way: full sizes add up to 10.0 GiB, 12.0 are usable. Price -1.000 (Low), mode Adaptive.\n",
    ),
    "others give way first": (
        posters(Site().node("gpu-1", "15Gi").pod("a/x", target=("1.000", 10240)), target=("0.833", 5092)),
        "a/x",
        "Quality 1.000, 10240Mi on gpu-1/0, revision 1, applied.\n"
        "Others give way first: full sizes add up to 16.0 GiB, 15.0 are usable. "
        "Price -0.583 (Moderate), mode Adaptive.\n",
    ),
    "a policy's headroom is named, and the policy": (
        posters(
            Site().node().policy("careful", pressureThreshold=0.85).pod("a/x", target=("0.834", 8540)),
            target=("0.454", 2786),
        ),
        "a/x",
        "Quality 0.834, 8540Mi on gpu-1/0, revision 1, applied.\n"
        "Why not 1.000: full sizes add up to 16.0 GiB, 12.0 are usable, 0.9 of them kept as headroom. "
        "Price 0.483 (High), mode Adaptive (policy careful).\n",
    ),
    "on several GPUs the tightest decides": (
        two_gpus(),
        "a/x",
        "Quality 0.712, 7290Mi on gpu-1/0, gpu-1/1, revision 1, applied.\n"
        "Why not 1.000, on gpu-1/1, the tightest of its GPUs: "
        "full sizes add up to 18.0 GiB, 12.0 are usable. Price 0.705 (High), mode Adaptive.\n"
        "  a/x  High    floor  4.0  full 10.0  has  7.12 GiB  0.712\n"
        "  b/z  Normal  floor  1.8  full  8.0  has  4.87 GiB  0.647",
    ),
    "fixed at one size": (
        Site().node().pod("a/x", full="6Gi", floor="6Gi", target=("1.000", 6144)),
        "a/x",
        "Quality 1.000, 6144Mi on gpu-1/0, revision 1, applied.\n"
        "Full and floor are the same: it is fixed at this size, and nobody moves it.\n"
        "Full sizes add up to 6.0 GiB, 12.0 are usable. Price -1.000 (Low), mode Adaptive.\n"
        "  a/x  High  floor  6.0  full  6.0  has  6.00 GiB  1.000\n"
        "Revision 1, 2m ago: placed on gpu-1/0.\n"
        "Never below 6Gi while the pod lives.",
    ),
    "sized at its start": (
        Site().node().pod("a/x", target=("0.904", 9256), resize="AtStart", floor="7Gi", state="Held"),
        "a/x",
        "Held at 9256Mi on gpu-1/0.\n"
        "Its engine is sized once, at its start (resize: AtStart), and keeps that until it restarts.\n"
        "Full sizes add up to 0.0 GiB, 9.0 are held, 12.0 are usable. Price -1.000 (Low), mode Adaptive.\n"
        "  a/x  High  floor  7.0  full 10.0  has  9.04 GiB  held\n"
        "Revision 1, 2m ago: placed on gpu-1/0.\n"
        "What would change it (each line computed by the solver):\n"
        "  its restart  1.000\n",
    ),
    "it never acknowledged anything": (
        STARTS,
        "a/x",
        "Held at 10240Mi on gpu-1/0.\n"
        "It has acknowledged no size since its start, and so counts as an engine that cannot move.\n",
    ),
    "under a policy that sizes once": (
        Site().node().policy(mode="Fixed").pod("a/x", target=("1.000", 10240)),
        "a/x",
        "Held at 10240Mi on gpu-1/0.\nPolicy default sizes everybody once, at the start, and holds it.\n",
    ),
    "late in giving back": (
        LATE,
        "a/x",
        "Held at 10240Mi on gpu-1/0; it was told 0.904 (9256Mi), and has not given back in time.\n"
        "Why not 1.000: full sizes add up to 16.0 GiB, 12.0 are usable. Price 0.356 (High), mode Adaptive.\n"
        "  a/x  High        floor  4.0  full 10.0  has  9.04 GiB  0.904  overdue, may hold 10.00 GiB\n"
        "  b/y  Background  floor  1.8  full  6.0  has  2.96 GiB  0.493  not started yet\n",
    ),
    "its start is held until another has given back": (
        LATE,
        "b/y",
        "Start held: needs 1843Mi on gpu-1/0, 2048Mi free; a/x is giving back 984Mi, and is late with it.\n",
    ),
    "on its way to its target": (
        posters(Site().node().pod("a/x", target=("0.904", 9256), granted=10240), granted=2048),
        "b/y",
        "Quality 0.493, 3028Mi on gpu-1/0, revision 1, on the way: granted 2048Mi, may hold 2048Mi; "
        "a/x is giving back 984Mi.\n"
        "Why not 1.000: full sizes add up to 16.0 GiB, 12.0 are usable. Price 0.356 (High), mode Adaptive.\n"
        "  a/x  High        floor  4.0  full 10.0  has 10.00 GiB  0.904  goes to 9.04 GiB\n"
        "  b/y  Background  floor  1.8  full  6.0  has  2.00 GiB  0.493  goes to 2.96 GiB\n",
    ),
    "the operator has not told what is due": (
        posters(Site().node().pod("a/x", target=("1.000", 10240))),
        "a/x",
        "Quality 1.000, 10240Mi on gpu-1/0, revision 1, applied.\n"
        "Why not 1.000: full sizes add up to 16.0 GiB, 12.0 are usable. Price 0.356 (High), mode Adaptive.\n"
        "By now 0.904 (9256Mi) is due: the operator tells it within a second; if that lasts: arbiter doctor.\n",
    ),
}


@pytest.mark.parametrize(("site", "key", "opening"), OPENINGS.values(), ids=OPENINGS.keys())
def test_where_a_pod_stands_and_why(site: Site, key: str, opening: str) -> None:
    answer = text(site, key)
    assert answer[: len(opening)] == opening


def test_of_neighbours_that_are_alike_one_speaks_for_all() -> None:
    site = Site().node("gpu-1", "24Gi")
    for number in range(4):
        site.pod(f"a/chat-{number}", allocation="chat", priority="Normal", full="11Gi", target=("0.571", 6138))
    changes = [change.change for change in explained(site, "a/chat-1").changes]
    assert changes == ["a/chat-0 leaves", "44.0 GiB usable", "priority High", "priority Critical", "one more a/chat"]


def test_what_has_no_room_is_said() -> None:
    site = Site().node().pod("a/x", target=("0.730", 7474)).pod("b/y", target=("0.440", 4505))
    last = explained(site, "a/x").changes[-1]
    assert (last.change, last.obstacle) == ("one more b/y", "")
    crowded = Site().node("gpu-1", "8Gi").pod("a/x", target=("0.400", 4096)).pod("b/y", target=("0.400", 4096))
    last = explained(crowded, "a/x").changes[-1]
    assert (last.change, last.obstacle) == ("one more b/y", "has no room here: floor 4Gi, 0 free")
