"""Draws the picture on a terminal and reads its keys. Thin: what is seen and what keys do is decided elsewhere."""

import asyncio
import logging
import os
import signal
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from rich.console import Console, Group
from rich.text import Text

from arbiter.ids import NodeName
from arbiter_cli.explain.gpu import explain_gpu
from arbiter_cli.explain.names import Kind
from arbiter_cli.explain.several import explain_one
from arbiter_cli.explain.text import Answer, as_text
from arbiter_cli.printing import age
from arbiter_cli.snapshot import Snapshot
from arbiter_cli.top.feed import Feed
from arbiter_cli.top.lines import Line, Tone, lines, title
from arbiter_cli.top.screen import BACK, HINTS, Screen, chosen_line, keys_of, pressed, shown, titled
from arbiter_cli.top.view import Viewer, chosen
from arbiter_kube.api.objects import ObjectKey

_LEAST_INTERVAL = 0.1
"""Seconds between two drawings, however much happens."""

_CLOCK = 1.0
"""Seconds after which ages are drawn anew though nothing happened."""

STYLES = {
    Tone.TITLE: "bold",
    Tone.HEADING: "bold dim",
    Tone.CALM: "green",
    Tone.SHARED: "cyan",
    Tone.TIGHT: "yellow",
    Tone.SCARCE: "red",
    Tone.PLAIN: "",
    Tone.WAITING: "magenta",
    Tone.ALARM: "bold red",
}


async def live(feed: Feed, first: Screen, *, wide: bool) -> None:
    """Draws until somebody quits."""
    # Whoever looks at the screen is told of an outage there, and not by lines across it.
    logging.getLogger("arbiter_kube").addHandler(logging.NullHandler())
    following = asyncio.ensure_future(feed.run())
    console = Console()
    try:
        with _keyboard(feed.changed.set) as typed, console.screen(hide_cursor=True) as display:
            session = _Session(feed, first, wide=wide)
            while not session.screen.quit:
                started = time.monotonic()
                display.update(session.frame(width=console.width, height=console.height))
                # A cluster so large that drawing takes long is drawn less often.
                rest = max(_LEAST_INTERVAL, time.monotonic() - started)
                await _news(feed.changed, typed, following, rest=rest)
                while typed:
                    session.typed(typed.popleft(), height=console.height)
    finally:
        following.cancel()
        await asyncio.wait([following])
    if not following.cancelled():
        following.result()


async def _news(changed: asyncio.Event, typed: deque[str], following: "asyncio.Future[None]", *, rest: float) -> None:
    """Waits for a key, for something else to show, or for the next second; what is no key is gathered for `rest` s."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOCK):
            await changed.wait()
    if following.done():
        following.result()
    if not typed:
        await asyncio.sleep(rest)
    changed.clear()


class _Session:
    """What one person sees."""

    def __init__(self, feed: Feed, screen: Screen, *, wide: bool) -> None:
        self.screen = screen
        self._feed = feed
        self._wide = wide
        self._viewer = Viewer()
        self._lines: Sequence[Line] = ()
        self._namespaces: Sequence[str] = ()

    def frame(self, *, width: int, height: int) -> Group:
        """The whole screen, as it should be now."""
        snapshot = self._feed.snapshot()
        view = self._viewer.view(snapshot)
        self._namespaces = view.namespaces
        self._lines = lines(chosen(view, namespace=self.screen.namespace, sort=self.screen.sort), wide=self._wide)
        if self.screen.opens:
            line = chosen_line(self.screen, self._lines)
            page = None if line is None else tuple(explanation(snapshot, line).splitlines())
            self.screen = replace(self.screen, opens=False, page=page, scroll=0)
        heading = titled(title(view), HINTS if self.screen.page is None else BACK, width=width)
        rows = [Line(heading, Tone.TITLE), *self._notes()]
        below = shown(self.screen, self._lines, height=max(1, height - len(rows)))
        return rendered([(line, False) for line in rows] + [(one.line, one.chosen) for one in below], width=width)

    def typed(self, text: str, *, height: int) -> None:
        """Something was typed."""
        for key in keys_of(text):
            self.screen = pressed(
                self.screen, key, lines=self._lines, namespaces=self._namespaces, height=max(1, height - 2)
            )

    def _notes(self) -> list[Line]:
        notes = []
        if self._feed.silent_since is not None:
            silence = age(time.time() - self._feed.silent_since)
            notes.append(Line(f"The API server does not answer for {silence}; asked again every 2s.", Tone.ALARM))
        elif not self._feed.is_complete:
            notes.append(Line("Reading the cluster ...", Tone.WAITING))
        if self.screen.namespace is not None or self.screen.sort.value != "gpu":
            where = self.screen.namespace or "all namespaces"
            notes.append(Line(f"{where}, sorted by {self.screen.sort}", Tone.HEADING))
        return notes


def explanation(snapshot: Snapshot, line: Line) -> str:
    """What `arbiter explain` says of what the line is about."""
    subject = line.subject
    answer: Answer | None = None
    if subject is not None and subject.kind is Kind.POD:
        pod = snapshot.pods.get(ObjectKey(line.namespace, subject.name))
        answer = None if pod is None else explain_one(snapshot, pod)
    elif subject is not None:
        state = snapshot.cluster.node_state(NodeName(subject.name))
        gpu = None if state is None else next((gpu for gpu in state.report.gpus if gpu.index == subject.index), None)
        answer = None if state is None or gpu is None else explain_gpu(snapshot, state, gpu)
    return f"{subject} is gone." if answer is None else f"{subject}\n\n{as_text(answer)}"


def rendered(rows: Sequence[tuple[Line, bool]], *, width: int) -> Group:
    """Lines with their colours, cut at the edge; the second of each pair says whether the cursor is there."""
    texts = []
    for line, at_cursor in rows:
        style = f"{STYLES[line.tone]} reverse" if at_cursor else STYLES[line.tone]
        texts.append(Text(line.text[:width], style=style.strip(), no_wrap=True, overflow="crop"))
    return Group(*texts)


@contextmanager
def _keyboard(wake: Callable[[], None]) -> Iterator[deque[str]]:
    """What is typed, key by key and without echo; signals that would end us are a q, and a new size wakes as well."""
    descriptor, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    typed: deque[str] = deque()
    before = termios.tcgetattr(descriptor)
    signals = {signal.SIGINT: "q", signal.SIGTERM: "q", signal.SIGWINCH: "", signal.SIGTSTP: ""}

    def take(text: str) -> None:
        typed.append(text)
        wake()

    try:
        tty.setcbreak(descriptor)
        # A terminal that is gone is at its end for ever.
        loop.add_reader(descriptor, lambda: take(os.read(descriptor, 1024).decode(errors="ignore") or "q"))
        for number, text in signals.items():
            loop.add_signal_handler(number, take, text)
        yield typed
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
