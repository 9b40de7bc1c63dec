"""Draws docs/library.svg: a story that the library's own allocator plays, on a clock that is turned.

    .venv/bin/python -m hack.library_picture > docs/library.svg

A test keeps the file in step with the code.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

from arbiter.ids import PodUid
from arbiter.local.allocator import Allocator
from arbiter.local.claim import Changed, Granted, QualityTarget
from arbiter.local.config import ArbiterConfig
from arbiter.local.request import AllocationRequest
from arbiter.units import GIB
from arbiter.workload import Priority, WorkloadType

CAPACITY = 12
END = 20.0
LEFT, TOP, WIDTH, HEIGHT = 60.0, 76.0, 830.0, 240.0

CHAT = AllocationRequest(
    workload_type=WorkloadType.LLM_INFERENCE,
    priority=Priority.HIGH,
    memory_required=10 * GIB,
    minimum_memory=4 * GIB,
)
POSTER = replace(
    CHAT,
    workload_type=WorkloadType.IMAGE_GENERATION,
    priority=Priority.NORMAL,
    memory_required=6 * GIB,
    minimum_memory=3 * GIB,
)
VIDEO = replace(
    CHAT,
    workload_type=WorkloadType.VIDEO_GENERATION,
    priority=Priority.LOW,
    memory_required=8 * GIB,
    minimum_memory=3 * GIB,
)

COLOURS = {"chat": ("#ddf4ff", "#0969da"), "poster": ("#dafbe1", "#1a7f37"), "video": ("#fff8c5", "#9a6700")}

HATCH = (
    '<defs><pattern id="owed" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<path d="M0 0 V7" stroke="#57606a" stroke-width="1.5"/></pattern></defs>'
)
"""For memory that is asked back and still in use."""


@dataclass(frozen=True)
class Moment:
    """From `at` (s) on each uses so many bytes and was told this target, by name."""

    at: float
    uses: dict[str, int]
    told: dict[str, QualityTarget]


@dataclass
class Story:
    """What happens to one GPU: who may use more does so at once, who is told to use less when it gives back."""

    allocator: Allocator = field(
        default_factory=lambda: Allocator(ArbiterConfig(vram_budget=CAPACITY * GIB), now=0.0), init=False
    )
    uids: dict[str, PodUid] = field(default_factory=dict)
    told: dict[str, QualityTarget] = field(default_factory=dict)
    uses: dict[str, int] = field(default_factory=dict)
    moments: list[Moment] = field(default_factory=list)
    events: list[tuple[float, str]] = field(default_factory=list)

    def ask(self, name: str, request: AllocationRequest, *, at: float, text: str) -> None:
        """Somebody asks for memory."""
        self.uids[name] = self.allocator.submit(request, at)
        self._happened(at, text)

    def give_back(self, *names: str, at: float, text: str) -> None:
        """They use no more than they were told last."""
        for name in names:
            target = self.told[name]
            self.uses[name] = target.memory
            self.allocator.acknowledge(self.uids[name], revision=target.revision, memory=target.memory, now=at)
        self._happened(at, text)

    def leave(self, name: str, *, at: float, text: str) -> None:
        """Somebody releases its memory."""
        del self.uses[name]
        self.allocator.release(self.uids[name])
        self._happened(at, text)

    def _happened(self, at: float, text: str) -> None:
        names = {uid: name for name, uid in self.uids.items()}
        for notice in self.allocator.settle(at):
            if isinstance(notice, Granted | Changed):
                name = names[notice.uid]
                self.told[name] = notice.target
                self.uses[name] = max(self.uses.get(name, 0), notice.target.memory)
        self.events.append((at, text))
        self.moments.append(Moment(at, dict(self.uses), dict(self.told)))


def told() -> Story:
    """The story of the picture."""
    story = Story()
    story.ask("chat", CHAT, at=0.0, text="chat comes")
    story.ask("poster", POSTER, at=3.0, text="a poster asks")
    story.give_back("chat", at=4.0, text="chat has given back")
    story.ask("video", VIDEO, at=8.0, text="a video asks")
    story.give_back("chat", "poster", at=9.0, text="both have given back")
    story.leave("chat", at=13.0, text="chat leaves")
    story.leave("poster", at=17.0, text="the poster leaves")
    return story


def draw(story: Story) -> str:
    """The picture as SVG."""
    return picture(
        story.moments, story.events, title="Three allocations on 12 GiB: who may use what, and when", before=HATCH
    )


def picture(moments: list[Moment], events: list[tuple[float, str]], *, title: str, before: str = "") -> str:
    """Who has what of 12 GiB over 20 s, and what happened; `title` says it in a sentence."""
    return svg(TOP + HEIGHT + 54, title, [before, *_axes(), *_areas(moments), *_events(events)])


def svg(height: float, title: str, lines: Iterable[str]) -> str:
    """A picture of 920 by `height` on white."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 920 {height:.0f}" '
            f'font-family="ui-sans-serif, system-ui, sans-serif" font-size="13" role="img" aria-label="{title}">',
            f'<rect width="920" height="{height:.0f}" fill="#ffffff"/>',
            *filter(None, lines),
            "</svg>",
            "",
        ]
    )


def _x(at: float) -> float:
    return LEFT + WIDTH * at / END


def _y(size: float) -> float:
    return TOP + HEIGHT * (1 - size / (CAPACITY * GIB))


def text(x: float, y: float, words: str, *, fill: str = "#57606a", anchor: str = "middle", more: str = "") -> str:
    """Words at a point; `more` are further attributes."""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" text-anchor="{anchor}"{more}>{words}</text>'


def _axes() -> Iterator[str]:
    for size in range(0, CAPACITY + 1, 4):
        y = _y(size * GIB)
        yield f'<path d="M{LEFT:.1f} {y:.1f} H{LEFT + WIDTH:.1f}" stroke="#d0d7de"/>'
        yield text(LEFT - 8, y + 4, f"{size} GiB", anchor="end")
    for at in range(0, int(END) + 1, 4):
        yield text(_x(at), TOP + HEIGHT + 18, f"{at} s")


def _areas(moments: list[Moment]) -> Iterator[str]:
    """One rectangle for each holder and time, hatched where it is to give back; what it has stands in it when new."""
    last: dict[str, int] = {}
    for moment, after in pairwise([*moments, Moment(END, {}, {})]):
        left, right, below = _x(moment.at), _x(after.at), 0
        for name, size in moment.uses.items():
            fill, ink = COLOURS[name]
            told = moment.told[name]
            yield _rectangle(left, right, below, below + size, f'fill="{fill}" stroke="{ink}"')
            if told.memory < size:
                yield _rectangle(left, right, below + told.memory, below + size, 'fill="url(#owed)"')
            elif last.get(name) != told.revision:
                middle = _y(below + size / 2) + 4
                title = f"{name} {told.quality:.3f}"
                yield text(left + 8, middle, title, fill=ink, anchor="start", more=' font-weight="600"')
                yield text(left + 8, middle + 17, f"{size / GIB:.1f} GiB", fill=ink, anchor="start")
                last[name] = told.revision
            below += size


def _rectangle(left: float, right: float, low: int, high: int, look: str) -> str:
    top = _y(high)
    return f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{_y(low) - top:.1f}" {look}/>'


def _events(events: list[tuple[float, str]]) -> Iterator[str]:
    """What happens, above; the labels take turns in two rows, so that neighbours do not meet."""
    rows = [(_x(at), TOP - 38 + 20 * (number % 2), words) for number, (at, words) in enumerate(events)]
    for x, y, _ in rows:
        yield f'<path d="M{x:.1f} {y + 5:.1f} V{TOP + HEIGHT:.1f}" stroke="#57606a" stroke-dasharray="3 3"/>'
    for x, y, words in rows:
        halo = ' paint-order="stroke" stroke="#ffffff" stroke-width="5"'
        yield text(x, y, words, fill="#1f2328", anchor="start", more=halo)


if __name__ == "__main__":
    sys.stdout.write(draw(told()))
