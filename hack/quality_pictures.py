"""Draws the pictures of docs/quality.md with the solver's own curves and targets.

    .venv/bin/python -m hack.quality_pictures

A test keeps the files in step with the code.
"""

from collections.abc import Iterator
from fractions import Fraction
from itertools import count

from arbiter.curves import HIGHEST_PRICE, LOWEST_PRICE, quality_curve
from arbiter.demand import Demand
from arbiter.equilibrium import Equilibrium, Member, solve
from arbiter.ids import GpuUuid, PodUid
from arbiter.local.claim import QualityTarget
from arbiter.policy import Policy
from arbiter.units import GIB, MIB
from arbiter.workload import Priority, WorkloadType
from hack.cluster.paths import REPOSITORY
from hack.library_picture import CAPACITY, COLOURS, Moment, picture, svg, text

GPU = GpuUuid("gpu-1/0")
LLM, IMAGE = WorkloadType.LLM_INFERENCE, WorkloadType.IMAGE_GENERATION
VIDEO = WorkloadType.VIDEO_GENERATION

Series = tuple[str, str, list[tuple[Fraction, float]]]
"""A name, a colour, and points."""


def demand(kind: WorkloadType, priority: Priority, full: int, floor: int, minimum: str) -> Demand:
    """Sizes in MiB."""
    return Demand(
        workload_type=kind,
        priority=priority,
        full=full * MIB,
        floor=floor * MIB,
        maximum=Fraction(1),
        minimum=Fraction(minimum),
    )


DEMANDS = {
    "chat": demand(LLM, Priority.HIGH, 10240, 4096, "0.4"),
    "poster": demand(IMAGE, Priority.BACKGROUND, 6144, 1843, "0.3"),
    "video": demand(VIDEO, Priority.NORMAL, 8192, 3072, "0.25"),
}
"""chat and posters of the examples, and somebody to come later."""

PRIORITY_COLOURS = dict(zip(Priority, ("#8c959f", "#9a6700", "#1a7f37", "#0969da", "#cf222e"), strict=True))


def solved(names: list[str]) -> Equilibrium:
    """Who gets what of one GPU where these share it."""
    members = [Member(uid=PodUid(name), demand=DEMANDS[name], gpus=(GPU,)) for name in names]
    return solve({GPU: CAPACITY * GIB}, members, Policy())


# Curves


def curves() -> str:
    """Quality by price for each priority; memory by price for two, and where its sum meets what there is."""
    price = solved(["chat", "poster"]).prices[GPU].price
    left = _Axes(left=70, low=LOWEST_PRICE, high=HIGHEST_PRICE, top=1.0, unit="", step=0.25)
    right = _Axes(left=540, low=LOWEST_PRICE, high=Fraction(6), top=16.0, unit=" GiB", step=4.0)
    lines = [
        *left.drawn("quality of an LLM with minimum 0.4", "price"),
        *(line for series in _by_priority() for line in left.line(series)),
        *right.drawn("memory of chat and poster", "price"),
        *(line for series in _memories() for line in right.line(series)),
        *right.mark(price, float(CAPACITY), f"12 GiB usable: price {float(price):.3f}"),
    ]
    return svg(374, "Quality and memory fall as the price of a GPU rises", lines)


def _by_priority() -> Iterator[Series]:
    for priority, colour in PRIORITY_COLOURS.items():
        knots = quality_curve(demand(LLM, priority, 10240, 4096, "0.4"), Policy()).knots
        yield priority.value, colour, [(x, float(y)) for x, y in knots]


def _memories() -> Iterator[Series]:
    curves = {name: quality_curve(DEMANDS[name], Policy()) for name in ("chat", "poster")}
    prices = sorted({x for curve in curves.values() for x, _ in curve.knots})
    for name, curve in curves.items():
        yield name, COLOURS[name][1], [(x, _gib(name, curve(x))) for x in prices]
    yield "together", "#1f2328", [(x, sum(_gib(name, curve(x)) for name, curve in curves.items())) for x in prices]


def _gib(name: str, quality: Fraction) -> float:
    wanted = DEMANDS[name]
    share = (quality - wanted.minimum) / (wanted.maximum - wanted.minimum)
    return float((wanted.floor + share * (wanted.full - wanted.floor)) / GIB)


class _Axes:
    """One diagram of the picture: from `left` on, prices from `low` to `high`, values from 0 to `top`."""

    WIDTH, TOP, HEIGHT = 330.0, 50.0, 240.0

    def __init__(self, *, left: float, low: Fraction, high: Fraction, top: float, unit: str, step: float) -> None:
        self._left, self._low, self._span = left, low, float(high - low)
        self._top, self._unit, self._step = top, unit, step
        self._labelled = count()

    def drawn(self, title: str, below: str) -> Iterator[str]:
        """Grid, numbers and title."""
        yield text(self._left, 28, title, fill="#1f2328", anchor="start", more=' font-weight="600"')
        for number in range(int(self._top / self._step) + 1):
            value = number * self._step
            yield f'<path d="M{self._left:.1f} {self._y(value):.1f} h{self.WIDTH:.1f}" stroke="#d0d7de"/>'
            yield text(self._left - 8, self._y(value) + 4, f"{value:g}{self._unit}", anchor="end")
        for price in range(int(self._low), int(self._low + self._span) + 1):
            yield text(self._x(Fraction(price)), self.TOP + self.HEIGHT + 18, str(price))
        yield text(self._left + self.WIDTH / 2, self.TOP + self.HEIGHT + 38, below)

    def line(self, series: Series) -> Iterator[str]:
        """One curve, and its name in the legend below."""
        name, colour, points = series
        path = " ".join(f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in points)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        place = self._left + 86 * next(self._labelled) - 40
        yield f'<path d="M{place:.1f} 352 h14" stroke="{colour}" stroke-width="3"/>'
        yield text(place + 18, 356, name, fill=colour, anchor="start", more=' font-size="11"')

    def mark(self, price: Fraction, value: float, words: str) -> Iterator[str]:
        """A point, and the limit that it lies on."""
        x, y = self._x(price), self._y(value)
        yield f'<path d="M{self._left:.1f} {y:.1f} h{self.WIDTH:.1f}" stroke="#cf222e" stroke-dasharray="5 4"/>'
        yield f'<path d="M{x:.1f} {y:.1f} V{self.TOP + self.HEIGHT:.1f}" stroke="#cf222e" stroke-dasharray="5 4"/>'
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#cf222e"/>'
        yield text(self._left + self.WIDTH, y - 8, words, fill="#cf222e", anchor="end")

    def _x(self, price: Fraction) -> float:
        return self._left + self.WIDTH * float(price - self._low) / self._span

    def _y(self, value: float) -> float:
        return self.TOP + self.HEIGHT * (1 - value / self._top)


# Arrivals

EVENTS = [
    (0.0, "chat comes", ["chat"]),
    (4.0, "a poster comes", ["chat", "poster"]),
    (8.0, "a video comes", ["chat", "poster", "video"]),
    (12.0, "chat leaves", ["poster", "video"]),
    (16.0, "the poster leaves", ["video"]),
]
"""When, what, and who is there then."""


def moments() -> list[Moment]:
    """The targets after each of the events."""
    found, last = [], dict[str, QualityTarget]()
    for revision, (at, _, names) in enumerate(EVENTS, 1):
        targets = solved(names).targets
        told = {name: _told(targets[PodUid(name)].quality, targets[PodUid(name)].vram, revision) for name in names}
        # A target that stays is no new one.
        last = {
            name: last[name] if name in last and (last[name].quality, last[name].memory) == (t.quality, t.memory) else t
            for name, t in told.items()
        }
        found.append(Moment(at, {name: target.memory for name, target in last.items()}, dict(last)))
    return found


def _told(quality: Fraction | None, vram: int, revision: int) -> QualityTarget:
    shown = float(quality or 0)
    return QualityTarget(
        allocation="", quality=shown, memory=vram, target=shown, minimum=0.0, revision=revision, reason=""
    )


def arrivals() -> str:
    """The picture of the events."""
    events = [(at, words) for at, words, _ in EVENTS]
    return picture(moments(), events, title="Targets on 12 GiB while workloads come and leave")


PICTURES = {"quality-curves.svg": curves, "quality-arrivals.svg": arrivals}


if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (REPOSITORY / "docs" / name).write_text(draw())
