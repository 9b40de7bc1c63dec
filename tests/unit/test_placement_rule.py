"""Whole histories placed by the index, each choice held against the rule written down plainly, without any index."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from math import ceil
from random import Random

import pytest

from arbiter.demand import thousandths
from arbiter.equilibrium import Member, solve
from arbiter.ids import GpuUuid, NodeName, OwnerUid, PodUid
from arbiter.placement import SOLVED, Choice, GpuRoom, Idle, Newcomer, NodeRoom, Placement, Strategy, index
from arbiter.placement.census import drift, typical
from arbiter.placement.load import Kind, weight_of
from arbiter.placement.mix import STEPS
from arbiter.policy import Policy
from arbiter.units import GIB
from arbiter.workload import Priority
from tests.unit.test_placement import demand, gpu

Model = str
Uuids = tuple[GpuUuid, ...]


class Plain:
    """The rule: every GPU is looked at anew for every newcomer."""

    def __init__(self, nodes: Iterable[NodeRoom], *, strategy: Strategy) -> None:
        self.rooms = {node.name: node for node in nodes}
        self._strategy = strategy
        self._changes = sum(len(node.gpus) for node in self.rooms.values())
        self._expected: dict[Kind, float] = {}
        self._weights: dict[Kind, float] = {}
        self._step = 1

    def join(self, newcomer: Newcomer, choice: Choice, *, uid: str) -> NodeRoom:
        """The newcomer runs where it was placed."""
        member = Member(uid=PodUid(uid), demand=newcomer.demand, gpus=choice.gpus)
        owners = (newcomer.owner,) if newcomer.owner else ()
        room = self.rooms[choice.node]
        idle = room.idle
        self.rooms[choice.node] = replace(
            room,
            gpus=tuple(
                replace(
                    one,
                    members=(*one.members, member),
                    arrived=(*one.arrived, newcomer),
                    owners=(*one.owners, *owners),
                )
                if one.uuid in choice.gpus
                else one
                for one in room.gpus
            ),
            idle=idle and Idle(cpu=idle.cpu - newcomer.cpu, memory=idle.memory - newcomer.memory),
        )
        # Each was there before, and another one is after.
        self._changes += 2 * len(choice.gpus)
        return self.rooms[choice.node]

    def choose(self, newcomer: Newcomer) -> Choice | None:
        """The best of all options."""
        self._learn()
        nodes = [node for node in self.rooms.values() if self._takes(node, newcomer)]
        roomy = [option for node in nodes for option in self._roomy(node, newcomer)]
        if roomy:
            _, _, node, uuids, spare = min(roomy)
            return Choice(node=node, gpus=uuids, loss=Fraction(0), spare=spare)
        crowded = sorted(option for node in nodes for option in self._crowded(node, newcomer))
        solved = [
            (self._loss(self.rooms[node], uuids, newcomer), spare, node, uuids)
            for _, spare, node, uuids in crowded[:SOLVED]
        ]
        if not solved:
            return None
        loss, spare, node, uuids = min(solved)
        return Choice(node=node, gpus=uuids, loss=loss, spare=spare)

    @staticmethod
    def _takes(node: NodeRoom, newcomer: Newcomer) -> bool:
        if newcomer.models and node.model not in newcomer.models:
            return False
        return node.idle is None or (newcomer.cpu <= node.idle.cpu and newcomer.memory <= node.idle.memory)

    def _roomy(self, node: NodeRoom, newcomer: Newcomer) -> Iterator[tuple[int, float, NodeName, Uuids, int]]:
        """Where everybody keeps full quality: each GPU for those who want one, else the best of the node."""
        wanted = newcomer.demand
        free = [one for one in self._with_room(node, newcomer) if spare(one, newcomer) >= 0]
        groups: list[tuple[GpuRoom, ...]] = [(one,) for one in free]
        if wanted.gpu_count != 1:
            sign = -1 if self._strategy is Strategy.SPREAD else 1
            free.sort(key=lambda one: (replicas(one, newcomer), sign * spare(one, newcomer), one.uuid))
            groups = [tuple(free[: wanted.gpu_count])] if len(free) >= wanted.gpu_count else []
        for group in groups:
            left = sum(spare(one, newcomer) for one in group)
            uuids = tuple(sorted(one.uuid for one in group))
            mates = sum(replicas(one, newcomer) for one in group)
            yield mates, self._score(node, group, newcomer, left=left), node.name, uuids, left

    def _crowded(self, node: NodeRoom, newcomer: Newcomer) -> Iterator[tuple[float, int, NodeName, Uuids]]:
        fitting, count = self._with_room(node, newcomer), newcomer.demand.gpu_count
        groups: list[tuple[GpuRoom, ...]] = [(one,) for one in fitting]
        if count != 1:
            fitting.sort(
                key=lambda one: (spare(one, newcomer) < 0, strain(one, newcomer), spare(one, newcomer), one.uuid)
            )
            groups = [tuple(fitting[:count])] if len(fitting) >= count else []
        for group in groups:
            uuids = tuple(sorted(one.uuid for one in group))
            strains = [strain(one, newcomer) for one in sorted(group, key=lambda one: one.uuid)]
            yield sum(strains), min(spare(one, newcomer) for one in group), node.name, uuids

    @staticmethod
    def _with_room(node: NodeRoom, newcomer: Newcomer) -> list[GpuRoom]:
        return [one for one in node.gpus if one.largest_floor(unit=node.unit) >= newcomer.demand.floor]

    @staticmethod
    def _loss(node: NodeRoom, uuids: Uuids, newcomer: Newcomer) -> Fraction:
        """Of the whole node's quality, weighted by priority."""
        members = {member.uid: member for one in node.gpus for member in one.members}
        comes = Member(uid=PodUid(""), demand=newcomer.demand, gpus=uuids)
        worth = []
        for everybody in ([*members.values()], [*members.values(), comes]):
            targets = solve({one.uuid: one.usable for one in node.gpus}, everybody, node.policy).targets
            worth.append(
                sum(
                    weight_of(member.demand) * thousandths(quality)
                    for member in everybody
                    if (quality := targets[member.uid].quality) is not None
                )
            )
        full = weight_of(newcomer.demand) * thousandths(newcomer.demand.maximum)
        return Fraction(worth[0] + full - worth[1], 1000 * 1000)

    def _score(self, node: NodeRoom, group: tuple[GpuRoom, ...], newcomer: Newcomer, *, left: int) -> float:
        if not self._weights:
            return -left if self._strategy is Strategy.SPREAD else left
        full = newcomer.demand.full
        now = [idle(one) for one in node.gpus]
        then = [max(0, idle(one) - full) if one in group else idle(one) for one in node.gpus]
        if node.idle is None and len(group) == 1:
            return ceil(self._worse_alone(node.model, now, idle(group[0]), max(0, idle(group[0]) - full)) / self._step)
        cpu = None if node.idle is None else node.idle.cpu
        after = None if cpu is None else cpu - newcomer.cpu
        worse = self._unusable(node.model, after, then) - self._unusable(node.model, cpu, now)
        return ceil(worse / self._step)

    def _worse_alone(self, model: Model, idles: list[int], before: int, after: int) -> float:
        """GPUs do not depend on each other but for those who want several."""

        def usable(size: int) -> float:
            rows = [row for row in self._rows(model) if row.gpus == 1 and row.floor <= size]
            return sum(row.usable(size // row.floor, size, None) for row in rows)

        worse = after - before + (usable(before) - usable(after)) / 2
        for row in self._rows(model):
            if row.gpus > 1 and row.floor <= before:
                reached = [size for size in idles if size >= row.floor]
                stays = after >= row.floor
                now = row.usable(len(reached) // row.gpus, sum(reached), None)
                pods = (len(reached) - (not stays)) // row.gpus
                worse += (now - row.usable(pods, sum(reached) - before + after * stays, None)) / 2
        return worse

    def _unusable(self, model: Model, cpu: int | None, idles: list[int]) -> float:
        usable = 0.0
        for row in self._rows(model):
            reached = [size for size in idles if size and size >= row.floor]
            pods = sum(size // row.floor for size in reached) if row.gpus == 1 else len(reached) // row.gpus
            usable += row.usable(pods, sum(reached), cpu)
        return sum(idles) - usable / 2

    def _rows(self, model: Model) -> list["Row"]:
        weights: defaultdict[tuple[int, int], list[tuple[int, float]]] = defaultdict(list)
        for kind, weight in self._weights.items():
            if not kind.models or model in kind.models:
                weights[kind.floor, kind.gpus].append((kind.cpu, weight))
        return [Row(floor, gpus, weights[floor, gpus]) for floor, gpus in sorted(weights)]

    def _learn(self) -> None:
        if self._strategy is Strategy.SPREAD or self._changes < index.PATIENCE:
            return
        self._changes = 0
        seats = Counter(
            Kind.of(newcomer) for node in self.rooms.values() for one in node.gpus for newcomer in one.arrived
        )
        members = {kind: times / kind.gpus for kind, times in seats.items()}
        expected = typical(members) if sum(members.values()) >= index.FEWEST else {}
        if drift(expected, self._expected) > index.DRIFT:
            self._expected = expected
            self._expect(expected)

    def _expect(self, shares: dict[Kind, float]) -> None:
        """A kind weighs as much as it is frequent, and the more the fewer GPUs would do for it."""
        nodes = [*self.rooms.values()]
        sizes = [one.usable for node in nodes for one in node.gpus]
        weights = {}
        for kind, share in shares.items():
            will_do = sum(
                len(node.gpus)
                for node in nodes
                if (not kind.models or node.model in kind.models)
                and sum(one.usable >= kind.floor for one in node.gpus) >= kind.gpus
            )
            if will_do and kind.floor:
                weights[kind] = share * len(sizes) / will_do
        whole = sum(weights.values())
        self._weights = {kind: weight / whole for kind, weight in weights.items()}
        self._step = max(1, sum(sizes) // len(sizes) // STEPS)


@dataclass(frozen=True)
class Row:
    """Those of a floor on so many GPUs, by CPU, with their weights."""

    floor: int
    gpus: int
    weights: list[tuple[int, float]]

    def usable(self, pods: int, reached: int, cpu: int | None) -> float:
        """Twice the bytes that they can use: what the next one reaches, and what as many as there is room for take."""
        if not pods:
            return 0.0
        ascending = sorted(self.weights)
        if cpu is None:
            return sum(weight for _, weight in ascending) * (reached + pods * self.floor * self.gpus)
        rates = total(weight / max(1, each) for each, weight in ascending)
        enough = sum(each <= cpu / pods for each, _ in ascending)
        startable = total(weight for each, weight in ascending if each <= cpu)
        filling = total(weight for _, weight in ascending[:enough]) * pods
        rest = rates - total(weight / max(1, each) for each, weight in ascending[:enough])
        return startable * reached + (filling + cpu * rest) * self.floor * self.gpus


def total(figures: Iterable[float]) -> float:
    """Added one after another, so that the last bit is that of the index."""
    return [*accumulate(figures, initial=0.0)][-1]


def wanted(one: GpuRoom) -> int:
    """Bytes of everybody's full size, as far as they give way; the others' are taken from the room."""
    return sum(member.demand.full for member in one.members if member.gives_way)


def room(one: GpuRoom) -> int:
    return one.usable - sum(member.demand.full for member in one.members if not member.gives_way)


def idle(one: GpuRoom) -> int:
    return max(0, room(one) - wanted(one))


def spare(one: GpuRoom, newcomer: Newcomer) -> int:
    return room(one) - wanted(one) - newcomer.demand.full


def replicas(one: GpuRoom, newcomer: Newcomer) -> int:
    return sum(owner == newcomer.owner for owner in one.owners) if newcomer.owner else 0


def strain(one: GpuRoom, newcomer: Newcomer) -> float:
    """As if everybody who gives way got the same part of the full size."""
    weight = sum(weight_of(member.demand) for member in one.members if member.gives_way)

    def lost(size: int, wants: int, weighs: int) -> float:
        return 0.0 if wants <= size else weighs * (1 - max(size, 0) / wants)

    comes = newcomer.demand
    before = lost(room(one), wanted(one), weight)
    if comes.is_fixed:
        return lost(room(one) - comes.full, wanted(one), weight) - before
    return lost(room(one), wanted(one) + comes.full, weight + weight_of(comes)) - before


SIZES = ((10, 4), (6, 6), (12, 5), (3, 1), (24, 24), (14, 7))
MODELS = ("T4", "P100")


def a_cluster(random: Random, *, knows_cpu: bool) -> list[NodeRoom]:
    return [
        NodeRoom(
            name=NodeName(name := f"n{number:02}"),
            gpus=tuple(gpu(f"{name}-{at}", random.choice((16, 24))) for at in range(random.choice((1, 2, 4, 8)))),
            policy=Policy(),
            idle=Idle(cpu=random.choice((8, 24, 64)) * 1000, memory=random.choice((32, 256)) * GIB)
            if knows_cpu
            else None,
            model=random.choice(MODELS),
        )
        for number in range(14)
    ]


def a_crowd(random: Random) -> Iterator[Newcomer]:
    """Kinds of newcomers, the first most often."""
    kinds = [
        Newcomer(
            demand=demand(full, floor, priority=random.choice([*Priority]), gpu_count=count),
            cpu=random.choice((500, 1500, 4000, 7000)),
            memory=random.choice((1, 4)) * GIB,
            models=frozenset({random.choice(MODELS)}) if random.random() < 0.2 else frozenset(),
            owner=OwnerUid(f"o{number}") if random.random() < 0.3 else None,
        )
        for number in range(14)
        for full, floor in [random.choice(SIZES)]
        for count in [random.choice((1, 1, 1, 1, 2, 4))]
    ]
    while True:
        yield kinds[min(random.randrange(len(kinds)), random.randrange(len(kinds)))]


@pytest.mark.parametrize("knows_cpu", [True, False], ids=["CPU is known", "CPU is not known"])
@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize("seed", range(3))
def test_every_choice_of_a_history_is_that_of_the_rule(
    seed: int, strategy: Strategy, knows_cpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "FEWEST", 10)
    monkeypatch.setattr(index, "PATIENCE", 16)
    random = Random(seed)
    nodes = a_cluster(random, knows_cpu=knows_cpu)
    plain, kept = Plain(nodes, strategy=strategy), Placement(strategy)
    for node in nodes:
        kept.put(node)
    chosen: list[Choice | None] = []
    for number, newcomer in zip(range(150), a_crowd(random), strict=False):
        choice = kept.choose(newcomer)
        assert choice == plain.choose(newcomer), (number, newcomer)
        chosen.append(choice)
        if choice is not None:
            kept.put(plain.join(newcomer, choice, uid=f"p{number:03}"))
    assert any(choice and choice.loss for choice in chosen) or any(choice is None for choice in chosen)
