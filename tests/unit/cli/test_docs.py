"""What docs/cli.md shows is what the commands print."""

from arbiter_cli.explain.several import explain_one
from arbiter_cli.explain.text import as_text
from arbiter_kube.api.objects import ObjectKey
from hack.cluster.paths import REPOSITORY
from tests.unit.cli.cluster import demo

DOCS = (REPOSITORY / "docs" / "cli.md").read_text()


def shown(command: str) -> str:
    """What stands below a command in the document."""
    return DOCS.partition(f"$ {command}\n")[2].partition("\n```")[0]


def test_explanations_are_as_shown() -> None:
    snapshot = demo().snapshot()
    for namespace, name in (("team-a", "chat-x2k8q"), ("team-c", "render-0")):
        pod = snapshot.pod(ObjectKey(namespace, name))
        assert pod is not None
        answer = explain_one(snapshot, pod)
        assert answer is not None
        assert shown(f"arbiter explain pod/{name} -n {namespace}") == as_text(answer)
