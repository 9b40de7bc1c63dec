"""`python -m hack.screens`: pictures of what `arbiter top`, `explain` and `doctor` show on a real local cluster.

Two workloads share a GPU and a third waits, as in the demo; the pictures go to docs/. Imports the local cluster, the
observer and the CLI.
"""

import asyncio
import io
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.text import Text

from arbiter_cli.access import Access
from arbiter_cli.snapshot import Snapshot, read_snapshot
from arbiter_cli.top.lines import Line, Tone, lines, title
from arbiter_cli.top.live import rendered
from arbiter_cli.top.screen import HINTS, Screen, shown, titled
from arbiter_cli.top.view import Sort, Viewer, chosen
from arbiter_kube.client import KubeClient
from hack.cluster.cluster import Cluster
from hack.cluster.paths import REPOSITORY
from hack.observe import Observer, PodView

WIDTH = 126

_ARBITER = Path(sys.executable).with_name("arbiter")
_EXAMPLES = REPOSITORY / "examples"
_DOCS = REPOSITORY / "docs"


def main() -> int:
    """Takes the pictures on a cluster of its own, which is removed afterwards."""
    with tempfile.TemporaryDirectory() as directory:
        cluster = Cluster(Path(directory))
        try:
            cluster.up(nodes=1, gpus="12Gi")
            chat, posters = share(cluster)
            for name, picture in screens(cluster, chat).items():
                save(_DOCS / f"screen-{name}.svg", picture, title=f"arbiter {name}")
        finally:
            cluster.down()
    print(f"{chat.name} and {posters.name}: docs/screen-*.svg")
    return 0


def share(cluster: Cluster) -> tuple[PodView, PodView]:
    """chat and posters, sharing the GPU, once render waits beside them."""
    for name in ("chat", "posters"):
        text = (_EXAMPLES / f"{name}.yaml").read_text()
        # Pictures take longer than the example's poster does.
        cluster.kubectl("apply", "-f", "-", stdin=text.replace('value: "20"', 'value: "600"'))
    observer = Observer(cluster)

    def settled(namespace: str, name: str, quality: float) -> PodView | None:
        pod = observer.pod(namespace, name)
        return pod if pod is not None and observer.allocation_quality(namespace, name) == quality else None

    chat = observer.wait("chat at 0.904", lambda: settled("team-a", "chat", 0.904), component="operator")
    posters = observer.wait("posters at 0.493", lambda: settled("team-b", "posters", 0.493), component="operator")
    cluster.kubectl("apply", "-f", str(_EXAMPLES / "render.yaml"))
    observer.wait(
        "render to be told what it waits for",
        lambda: observer.event("team-c", "render-0", "VramWaiting"),
        component="operator",
    )
    return chat, posters


def screens(cluster: Cluster, chat: PodView) -> dict[str, RenderableType]:
    """What each command shows, by its name."""
    return {
        "top": _top(asyncio.run(_snapshot(cluster.kubeconfig))),
        "explain": _answer(cluster, "explain", f"pod/{chat.name}", "-n", chat.namespace),
        "doctor": _answer(cluster, "doctor"),
    }


async def _snapshot(kubeconfig: Path) -> Snapshot:
    async with await KubeClient.connect(kubeconfig, component="screens") as client:
        version = await client.server_version()
        return await read_snapshot(Access(client=client, server="", version=version, namespace="default", within=15.0))


def _top(snapshot: Snapshot) -> Group:
    """The live screen as it is drawn at its start."""
    view = Viewer().view(snapshot)
    below = lines(chosen(view, namespace=None, sort=Sort.GPU))
    heading = Line(titled(title(view), HINTS, width=WIDTH), Tone.TITLE)
    rows = [(one.line, one.chosen) for one in shown(Screen(), below, height=len(below))]
    return rendered([(heading, False), *rows], width=WIDTH)


def _answer(cluster: Cluster, *arguments: str) -> Text:
    """A command and what it prints on a terminal."""
    done = subprocess.run(
        [_ARBITER, *arguments, "--kubeconfig", str(cluster.kubeconfig)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"FORCE_COLOR": "1", "TERM": "xterm-256color", "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
    )
    return Text.assemble(f"$ arbiter {' '.join(arguments)}\n", Text.from_ansi(done.stdout.rstrip()))


def save(path: Path, picture: RenderableType, *, title: str) -> None:
    """Writes a screen as SVG."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(picture)
    # Not every program that draws SVG leaves blanks at the start of a text alone.
    svg = console.export_svg(title=title).replace("<svg ", '<svg xml:space="preserve" ', 1)
    path.write_text(svg)


if __name__ == "__main__":
    sys.exit(main())
