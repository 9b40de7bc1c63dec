"""`arbiter top`: what is seen of a cluster, and what keys do."""

import pytest

from arbiter_cli.explain.names import Kind, Subject
from arbiter_cli.printing import as_data
from arbiter_cli.top.lines import Line, Tone, lines, title
from arbiter_cli.top.screen import HINTS, Key, Screen, chosen_line, keys_of, pressed, shown, titled
from arbiter_cli.top.view import Sort, View, Viewer, chosen
from tests.unit.cli.cluster import NOW, Site, demo


def view(site: Site) -> View:
    return Viewer().view(site.snapshot())


def text(seen: View, *, namespace: str | None = None, sort: Sort = Sort.GPU, wide: bool = False) -> str:
    return "\n".join(line.text for line in lines(chosen(seen, namespace=namespace, sort=sort), wide=wide))


def test_gpus_with_their_pods_and_who_waits() -> None:
    seen = view(demo())
    clock = NOW.astimezone().strftime("%H:%M:%S")
    assert title(seen) == f"arbiter top  {clock}   1 node  1 GPU  2 grants  1 waiting"
    assert text(seen) == (
        "GPU      MODEL    USABLE   FLOORS  GRANTED  MEASURED  PRICE  PRESSURE  ENFORCEMENT\n"
        "  POD                   TYPE   PRIORITY    QUALITY           GRANTED  MEASURED  CHANGED\n"
        "gpu-1/0  SIM-12G  12.00Gi  6.00Gi  12.00Gi  11.25Gi   0.356  High      monitor\n"
        "  team-a/chat-x2k8q     llm    High        0.904 #########.  9256Mi   8702Mi    2m\n"
        "  team-b/posters-4k2wz  image  Background  0.493 #####.....  3028Mi   2818Mi    2m\n"
        "WAITING  team-c/render-0  video  Low  "
        "floor 10Gi; gpu-1/0 has 6Gi, and 10Gi once team-a/chat (High) ends; 41s"
    )


def test_wide_adds_where_each_stands() -> None:
    wide = text(view(demo()), wide=True).splitlines()
    assert wide[0].endswith("ENFORCEMENT  MODE      UUID")
    assert wide[1].endswith("CHANGED  STATE    HELD    REVISION")
    assert wide[2].endswith("monitor      Adaptive  gpu-1-0")
    assert wide[3].endswith("2m       Movable  9256Mi  2")


def test_what_is_on_its_way_held_over_or_ill_is_seen() -> None:
    site = (
        Site()
        .node(healthy=False, reason="XID 79")
        .pod("a/moves", target=("0.904", 9256), granted=10240, quality="1.000")
        .pod("a/held", target=("0.493", 3028), state="Gated", granted=0)
    )
    rows = text(view(site)).splitlines()
    assert rows[2].endswith("monitor  NOT HEALTHY: XID 79")
    assert rows[3] == "  a/held   llm   High      Gated > 0.493             -        -         2m"
    assert rows[4] == "  a/moves  llm   High      1.000 ########## > 0.904  10240Mi  -         2m"


def test_one_namespace_alone_with_the_gpus_that_it_uses() -> None:
    site = demo().node("gpu-2").pod("team-d/other", target=("1.000", 10240), gpus=("gpu-2-0",))
    seen = view(site)
    assert seen.namespaces == ("team-a", "team-b", "team-c", "team-d")
    only = text(seen, namespace="team-d").splitlines()
    assert [row.split()[0] for row in only] == ["GPU", "POD", "gpu-2/0", "team-d/other"]
    assert text(seen, namespace="team-x") == "No GPU has a pod of this namespace."
    assert text(view(Site())) == "No node reports GPUs; arbiter doctor says why."


@pytest.mark.parametrize(
    ("sort", "gpus"),
    [
        (Sort.GPU, ["gpu-1/0", "gpu-2/0", "gpu-3/0"]),
        (Sort.PRICE, ["gpu-3/0", "gpu-1/0", "gpu-2/0"]),
        (Sort.QUALITY, ["gpu-3/0", "gpu-2/0", "gpu-1/0"]),
        (Sort.GRANTED, ["gpu-2/0", "gpu-3/0", "gpu-1/0"]),
        (Sort.CHANGED, ["gpu-2/0", "gpu-3/0", "gpu-1/0"]),
    ],
)
def test_the_order_of_gpus(sort: Sort, gpus: list[str]) -> None:
    site = Site().node("gpu-1").node("gpu-2").node("gpu-3", "8Gi")
    site.pod("a/two", target=("1.000", 10240), gpus=("gpu-2-0",), decided=5)
    site.pod("a/three", target=("0.800", 8192), gpus=("gpu-3-0",), decided=50)
    assert [row.gpu for row in chosen(view(site), namespace=None, sort=sort).rows] == gpus


def test_pods_of_a_gpu_are_ordered_alike() -> None:
    ordered = chosen(view(demo()), namespace=None, sort=Sort.QUALITY)
    assert [pod.pod for pod in ordered.rows[0].pods] == ["posters-4k2wz", "chat-x2k8q"]


def test_the_same_for_machines() -> None:
    data = as_data(view(demo()))
    assert (data["nodes"], data["gpus"], data["grants"], data["waiting"]) == (1, 1, 2, 1)
    assert data["rows"][0]["pods"][0] == {
        "namespace": "team-a",
        "pod": "chat-x2k8q",
        "type": "llm",
        "priority": "High",
        "quality": 0.904,
        "target": 0.904,
        "granted": 9256 << 20,
        "held": 9256 << 20,
        "measured": 8702 << 20,
        "state": "Movable",
        "revision": 2,
        "changed": NOW.timestamp() - 120,
    }
    assert data["queue"][0]["shortage"] == "gpu-1/0 has 6Gi, and 10Gi once team-a/chat (High) ends"


def test_a_node_that_stays_as_it_is_is_not_worked_out_again() -> None:
    viewer, snapshot = Viewer(), demo().snapshot()
    first, second = viewer.view(snapshot), viewer.view(snapshot)
    assert first.rows[0] is second.rows[0]


ROWS = [
    Line("GPU", Tone.HEADING),
    Line("gpu-1/0", Tone.CALM, Subject(Kind.GPU, "gpu-1", 0)),
    *(Line(f"a/{number}", Tone.PLAIN, Subject(Kind.POD, str(number)), "a") for number in range(9)),
]


def press(screen: Screen, *keys: Key) -> Screen:
    for key in keys:
        screen = pressed(screen, key, lines=ROWS, namespaces=("a", "b"), height=4)
    return screen


@pytest.mark.parametrize(
    ("keys", "screen"),
    [
        ((Key.QUIT,), Screen(quit=True)),
        ((Key.DOWN, Key.DOWN, Key.UP), Screen(cursor=1)),
        ((Key.UP,), Screen()),
        ((Key.END, Key.DOWN), Screen(cursor=9)),
        ((Key.PAGE_DOWN, Key.HOME), Screen()),
        ((Key.DOWN, Key.SORT), Screen(sort=Sort.PRICE)),
        ((Key.SORT,) * 5, Screen()),
        ((Key.NAMESPACE,), Screen(namespace="a")),
        ((Key.NAMESPACE,) * 3, Screen()),
        ((Key.ENTER,), Screen(opens=True)),
    ],
)
def test_what_keys_do(keys: tuple[Key, ...], screen: Screen) -> None:
    assert press(Screen(), *keys) == screen


def test_an_explanation_is_scrolled_and_closed() -> None:
    page = Screen(cursor=3, page=tuple("abcdef"))
    assert press(page, Key.DOWN).scroll == 1
    assert press(page, Key.END, Key.DOWN).scroll == 2
    assert press(page, Key.SORT) == page
    assert press(page, Key.DOWN, Key.ESCAPE) == Screen(cursor=3)
    assert press(page, Key.QUIT).quit
    assert [one.line.text for one in shown(press(page, Key.DOWN), ROWS, height=3)] == ["b", "c", "d"]


def test_headings_stay_and_the_cursor_is_in_sight() -> None:
    for cursor in range(10):
        seen = shown(Screen(cursor=cursor), ROWS, height=5)
        assert seen[0].line.text == "GPU"
        assert len(seen) == 5
        (at,) = [one.line for one in seen if one.chosen]
        assert at == ROWS[1 + cursor] == chosen_line(Screen(cursor=cursor), ROWS)


def test_fewer_lines_than_before_leave_the_cursor_on_the_last() -> None:
    assert chosen_line(Screen(cursor=9), ROWS[:3]) == ROWS[2]
    assert chosen_line(Screen(), [ROWS[0]]) is None


def test_keys_are_read_as_terminals_send_them() -> None:
    sent = "jk\x1b[A\x1bOB\x1b[6~x\r\x1bq"
    expected = [Key.DOWN, Key.UP, Key.UP, Key.DOWN, Key.PAGE_DOWN, Key.ENTER, Key.ESCAPE, Key.QUIT]
    assert [*keys_of(sent)] == expected


def test_hints_give_way_in_narrow_windows() -> None:
    assert titled("arbiter top", HINTS, width=60).endswith("[q]uit")
    assert len(titled("arbiter top", HINTS, width=60)) == 60
    assert titled("arbiter top", HINTS, width=30) == "arbiter top"
