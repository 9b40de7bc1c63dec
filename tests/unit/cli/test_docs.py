"""What docs/cli.md shows is what the commands print."""

import html

from arbiter_cli.doctor.command import CHECKS, judged
from arbiter_cli.doctor.command import as_text as checks_as_text
from arbiter_cli.explain.several import explain_one
from arbiter_cli.explain.text import as_text
from arbiter_cli.top.lines import lines
from arbiter_cli.top.view import Sort, Viewer, chosen
from arbiter_kube.api.objects import ObjectKey
from hack.cluster.paths import REPOSITORY
from tests.unit.cli.cluster import demo
from tests.unit.cli.test_doctor import healthy, offered_twice

DOCS = (REPOSITORY / "docs" / "cli.md").read_text()


def shown(command: str) -> str:
    """What stands below a command in the document."""
    return DOCS.partition(f"$ {command}\n")[2].partition("\n```")[0]


def test_explanations_are_as_shown() -> None:
    snapshot = demo().snapshot()
    for namespace, name in (("team-a", "chat-x2k8q"), ("team-c", "render-0")):
        pod = snapshot.pods[ObjectKey(namespace, name)]
        answer = explain_one(snapshot, pod)
        assert answer is not None
        assert shown(f"arbiter explain pod/{name} -n {namespace}") == as_text(answer)


def test_the_table_of_top_is_as_shown() -> None:
    seen = Viewer().view(demo().snapshot())
    written = [line.text for line in lines(chosen(seen, namespace=None, sort=Sort.GPU))]
    assert shown("arbiter top").splitlines()[1:] == written


def test_the_checks_of_doctor_are_as_shown() -> None:
    assert shown("arbiter doctor") == checks_as_text(judged(healthy(snapshot=offered_twice().snapshot()))).plain


def test_the_pictures_are_there_and_show_what_the_commands_say_today() -> None:
    said = {
        "top": "[s]ort [n]amespace [enter] explain [q]uit",
        "explain": "What would change it (each line computed by the solver):",
        "doctor": "14 checks, 0 failed",
    }
    for name, words in said.items():
        assert f"(screen-{name}.svg)" in DOCS
        picture = html.unescape((REPOSITORY / "docs" / f"screen-{name}.svg").read_text()).replace("\xa0", " ")
        assert words in picture
    assert f"{len(CHECKS)} checks" in said["doctor"]
