"""The quality equilibrium, slowly: by bisection and in floating point, straight from what docs/quality.md says.

It judges the solver, and so shares no line with it: imports the standard library only.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

GIB = 1 << 30
MIB = 1 << 20

PRIORITIES = ("Background", "Low", "Normal", "High", "Critical")
"""From the lowest; an index is a level."""

_MULTIPLIERS = (0.6, 0.8, 1.0, 1.1, 1.2)
_LOWEST, _HIGHEST = -1.0, 6.0
_HALVINGS = 60
_SAME_PRICE = 1e-9
_STEP = 1000
_ROUNDING = 1e-6
"""In steps: what floating point may take from a quality that is a whole number of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one container wants: bytes per GPU, qualities 0..1; `levels` are (quality, bytes), lowest first."""

    workload_type: str
    priority: str
    full: int
    floor: int
    maximum: float
    minimum: float
    levels: tuple[tuple[float, int], ...] = ()

    @property
    def level(self) -> int:
        """Its priority as a number, 0 for the lowest."""
        return PRIORITIES.index(self.priority)

    @property
    def is_fixed(self) -> bool:
        """Whether no other size would do."""
        return self.full == self.floor

    def vram(self, quality: float) -> float:
        """Bytes at a quality."""
        if self.is_fixed:
            return self.full
        if self.levels:
            return max(size for least, size in self._steps if least <= quality + 1e-12)
        share = (quality - self.minimum) / (self.maximum - self.minimum)
        return self.floor + share * (self.full - self.floor)

    def reported(self, quality: float) -> float:
        """The quality as people read it: in thousandths, rounded down; of levels, the level's."""
        if self.is_fixed:
            return self.maximum
        if self.levels:
            return max(least for least, _ in self._steps if least <= quality + 1e-12)
        return int(quality * _STEP + _ROUNDING) / _STEP

    @property
    def _steps(self) -> tuple[tuple[float, int], ...]:
        return ((self.minimum, self.floor), *self.levels, (self.maximum, self.full))


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A container on its GPUs; `held` are the bytes of one that cannot be moved."""

    uid: str
    demand: Demand
    gpus: tuple[str, ...]
    held: int | None = None
    name: str = ""

    @property
    def fixed_bytes(self) -> int | None:
        """Its bytes, where these do not depend on the price."""
        return self.demand.full if self.held is None and self.demand.is_fixed else self.held


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a policy says that matters here."""

    mode: str = "Adaptive"
    threshold: float = 1.0
    adaptive: bool = True

    @property
    def sizes_once(self) -> bool:
        """Whether nobody moves once it has started."""
        return self.mode == "Fixed" or not self.adaptive


def equilibrium(capacities: Mapping[str, int], members: Collection[Member], rules: Rules) -> dict[str, float]:
    """The quality of every member that can be moved, in thousandths, by uid.

    Of GPUs that share members the dearest is settled first, those that are as dear with it, and their members keep what
    they get there.
    """
    exact: dict[str, float] = {}
    demands = {member.uid: member.demand for member in members}
    open_gpus, now = set(capacities), {member.uid: member for member in members}
    while open_gpus:
        solved = {gpu: _Gpu(capacities[gpu], _on(gpu, now.values()), rules) for gpu in open_gpus}
        dearest = max(gpu.price for gpu in solved.values())
        settled = {name: gpu for name, gpu in solved.items() if dearest - gpu.price <= _SAME_PRICE}
        for uid, quality in _qualities(settled, rules).items():
            exact[uid] = quality
            now[uid] = replace(now[uid], held=int(demands[uid].vram(quality)))
        open_gpus -= set(settled)
    return {uid: demands[uid].reported(quality) for uid, quality in exact.items()}


def _on(gpu: str, members: Iterable[Member]) -> list[Member]:
    return [member for member in members if gpu in member.gpus]


def _qualities(gpus: Mapping[str, "_Gpu"], rules: Rules) -> dict[str, float]:
    """On GPUs of one price. Where a step of somebody's levels lies there, who has it loses it one after another until
    all fit.
    """
    price, below = max(gpu.price for gpu in gpus.values()), min(gpu.below for gpu in gpus.values())
    unmoved = {uid: quality for gpu in gpus.values() for uid, quality in gpu.unmoved.items()}
    movable = {member.uid: member for gpu in gpus.values() for member in gpu.movable}
    above = {uid: _quality(member.demand, price, rules) for uid, member in movable.items()}
    jumping = [member for member in movable.values() if member.demand.levels]
    now = above | {member.uid: _quality(member.demand, below, rules) for member in jumping}
    for member in sorted(jumping, key=lambda member: (member.demand.level, member.name, member.uid)):
        if any(gpus[gpu].is_exceeded(now) for gpu in member.gpus if gpu in gpus):
            now[member.uid] = above[member.uid]
    return unmoved | now


def _quality(demand: Demand, price: float, rules: Rules) -> float:
    if price <= 0:
        return demand.maximum + (1 + price) * (_share(demand, 0.0, rules) - demand.maximum)
    if price <= 1:
        return _share(demand, price, rules)
    fallen = min(max(price - 1 - demand.level, 0.0), 1.0)
    return _share(demand, 1.0, rules) + fallen * (demand.minimum - _share(demand, 1.0, rules))


def _share(demand: Demand, pressure: float, rules: Rules) -> float:
    """What the coordinator's formula gives at a pressure."""
    base = min(max((1 - 0.5 * pressure) * _MULTIPLIERS[demand.level], demand.minimum), 1.0)
    is_llm = demand.workload_type == "LlmInference"
    answers = {
        "Adaptive": base,
        "LlmFirst": max(base, 0.7) if is_llm else 0.9 * base,
        "DiffusionFirst": 0.9 * base if is_llm else max(base, 0.7),
        "Balanced": 0.5 + 0.45 * base,
    }
    answer = 1.0 if rules.sizes_once else answers[rules.mode]
    return min(max(demand.maximum * answer, demand.minimum), demand.maximum)


class _Gpu:
    """One GPU with its members. `price`, by bisection, is the least at which all fit, and `below` its neighbour."""

    def __init__(self, capacity: int, members: list[Member], rules: Rules) -> None:
        self._rules, self._capacity = rules, capacity
        self._fixed = sum(member.fixed_bytes for member in members if member.fixed_bytes is not None)
        self.movable = [member for member in members if member.fixed_bytes is None]
        self.unmoved = {m.uid: m.demand.maximum for m in members if m.held is None and m.demand.is_fixed}
        self.below, self.price = self._bisect()

    def is_exceeded(self, qualities: Mapping[str, float]) -> bool:
        """Whether those who can move need more than there is for them at the price."""
        used = sum(member.demand.vram(qualities[member.uid]) for member in self.movable)
        return self._fixed + used > self._limit(self.price) + MIB

    def _bisect(self) -> tuple[float, float]:
        if self._fits(_LOWEST):
            return _LOWEST, _LOWEST
        below, above = _LOWEST, _HIGHEST
        for _ in range(_HALVINGS):
            middle = (below + above) / 2
            below, above = (below, middle) if self._fits(middle) else (middle, above)
        return below, above

    def _fits(self, price: float) -> bool:
        used = sum(member.demand.vram(_quality(member.demand, price, self._rules)) for member in self.movable)
        return self._fixed + used <= self._limit(price)

    def _limit(self, price: float) -> float:
        threshold = self._rules.threshold
        share = threshold + (1 - threshold) * min(max(price, 0.0), 1.0)
        return self._fixed + (self._capacity - self._fixed) * share
