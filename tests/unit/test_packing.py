"""Whom a GPU is kept usable for: members are counted, and newcomers like them are expected."""

from dataclasses import dataclass, replace

import pytest

from arbiter.demand import Demand
from arbiter.ids import GpuUuid, NodeName
from arbiter.placement import GpuRoom, Idle, Newcomer, NodeRoom, Placement, Strategy, census, index, mix
from arbiter.placement.census import Census, drift, typical
from arbiter.placement.load import GpuLoad, Kind, NodeLoad
from arbiter.policy import Policy
from arbiter.units import GIB
from tests.unit.test_placement import demand, gpu, member, node

EIGHT, FOUR = demand(8, 8), demand(4, 4)


def filled(name: str, idle: float, *, by: Demand = EIGHT, count: int = 1) -> NodeRoom:
    """A node with one GPU that has members of a kind, and this much idle GiB."""
    members = [member(f"{name}-{number}", by, name) for number in range(count)]
    return node(name, gpu(name, idle + count * by.full / GIB, *members))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learns from every change, however few run."""
    monkeypatch.setattr(index, "FEWEST", 1)
    monkeypatch.setattr(index, "PATIENCE", 1)


def placed(newcomer: Newcomer, *nodes: NodeRoom, strategy: Strategy = Strategy.PACKED) -> str | None:
    placement = Placement(strategy)
    for one in nodes:
        placement.put(one)
    choice = placement.choose(newcomer)
    return None if choice is None else choice.node


@dataclass(frozen=True)
class Packed:
    nodes: tuple[NodeRoom, ...]
    newcomer: Newcomer
    expected: str


TEN_OR_TWELVE = (filled("a", 10), filled("b", 12))
CPU = Idle(cpu=8000, memory=64 * GIB)
PACKED = {
    "where it leaves room that those who run can use, before a tighter fit": Packed(
        TEN_OR_TWELVE, Newcomer(demand=FOUR), "b"
    ),
    "the first by name where both become more usable by as much": Packed(
        (filled("a", 13), filled("b", 12)), Newcomer(demand=FOUR), "a"
    ),
    "the first by name where both leave everything usable": Packed(
        (filled("b", 16), filled("a", 24)), Newcomer(demand=EIGHT), "a"
    ),
    "floors are what has to fit: those who run give way": Packed(
        (filled("a", 10, by=demand(10, 8)), filled("b", 12, by=demand(10, 8))), Newcomer(demand=FOUR), "b"
    ),
    "memory that CPU is too short for is no loss": Packed(
        (
            replace(filled("a", 12), idle=Idle(cpu=500, memory=64 * GIB)),
            replace(filled("b", 16), idle=CPU),
        ),
        Newcomer(demand=FOUR, cpu=500),
        "a",
    ),
}


@pytest.mark.parametrize("case", PACKED.values(), ids=PACKED.keys())
@pytest.mark.usefixtures("quick")
def test_newcomers_are_packed(case: Packed) -> None:
    assert placed(case.newcomer, *case.nodes) == case.expected
    assert placed(case.newcomer, *reversed(case.nodes)) == case.expected


def test_few_members_say_nothing_of_those_who_come() -> None:
    assert placed(Newcomer(demand=FOUR), *TEN_OR_TWELVE) == "a"


def test_many_members_say_who_comes() -> None:
    crowd = filled("crowd", 0, count=index.FEWEST)
    looked_at = [filled(f"full-{number}", 0) for number in range(index.PATIENCE)]

    assert placed(Newcomer(demand=FOUR), *TEN_OR_TWELVE, crowd, *looked_at) == "b"


@pytest.mark.usefixtures("quick")
def test_spreading_expects_nobody() -> None:
    assert placed(Newcomer(demand=FOUR), filled("a", 12), filled("b", 14), strategy=Strategy.SPREAD) == "b"


@pytest.mark.usefixtures("quick")
def test_those_who_run_now_are_expected() -> None:
    placement = Placement()
    for one in TEN_OR_TWELVE:
        placement.put(one)
    assert placement.choose(Newcomer(demand=FOUR)) is not None

    # Now a GPU of ten GiB loses less: it stays usable for those of six.
    placement.put(filled("a", 10, by=demand(6, 6), count=3))
    placement.put(filled("b", 12, by=demand(6, 6), count=3))
    choice = placement.choose(Newcomer(demand=FOUR))
    assert choice is not None
    assert choice.node == "a"


@pytest.mark.usefixtures("quick")
def test_a_mix_without_a_gpu_for_anybody_is_none() -> None:
    # The members' GPU shrank below their floor.
    assert (
        placed(Newcomer(demand=FOUR), node("a", gpu("a", 7, member("x", EIGHT, "a"))), filled("b", 5, by=FOUR)) == "b"
    )


def loads(*nodes: NodeRoom) -> list[GpuLoad]:
    return [GpuLoad.of(one, policy=Policy(), unit=1) for room in nodes for one in room.gpus]


def kind(floor: float, *, gpus: int = 1, cpu: int = 0) -> Kind:
    return Kind(int(floor * GIB), gpus, cpu, frozenset())


def test_members_are_counted_once_however_many_gpus_they_have() -> None:
    wide = member("wide", demand(10, 4, gpu_count=2), "a", "b")
    counted = Census()
    counted.replace((), loads(node("n", gpu("a", 12, wide), gpu("b", 12, wide)), filled("c", 4, count=2)))
    assert counted.members() == {kind(4, gpus=2): 1.0, kind(8): 2.0}


def test_members_that_are_known_as_newcomers_are_counted_as_those() -> None:
    counted = Census()
    newcomer = Newcomer(demand=FOUR, cpu=4000)
    counted.replace((), loads(node("n", replace(gpu("a", 12, member("x", FOUR, "a")), arrived=(newcomer,)))))
    assert counted.members() == {kind(4, cpu=4000): 1.0}


def test_only_gpus_that_are_other_objects_count_as_changed() -> None:
    counted = Census()
    first, second, third = loads(filled("a", 1), filled("b", 1), filled("c", 1, by=FOUR))
    counted.replace((), (first, second))
    assert counted.changes == 2

    counted.replace((first, second), (first, third))
    assert counted.changes == 4
    assert counted.members() == {kind(8): 1.0, kind(4): 1.0}
    counted.replace((first, third), ())
    assert counted.members() == {}


def test_the_rarest_kinds_are_not_typical() -> None:
    shares = typical({kind(1): 90.0, kind(2): 6.0, kind(3): 4.0})
    assert shares == {kind(1): 0.9, kind(2): 0.06}
    assert sum(shares.values()) >= census.TYPICAL


def test_drift_is_the_share_that_would_have_to_change() -> None:
    assert drift({}, {kind(1): 1.0}) == 0.5
    assert drift({kind(1): 0.5, kind(2): 0.5}, {kind(1): 0.75, kind(2): 0.25}) == 0.25
    assert drift({kind(1): 1.0}, {kind(1): 1.0}) == 0.0


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mix, "REMEMBERED", 2)
    monkeypatch.setattr(index, "FEWEST", 1)
    monkeypatch.setattr(index, "PATIENCE", 1)
    nodes = [replace(filled(f"n{idle:02}", idle), idle=CPU) for idle in (9, 11, 13, 15, 17)]
    assert placed(Newcomer(demand=FOUR), *nodes) == placed(Newcomer(demand=FOUR), *reversed(nodes))


def test_gpus_that_newcomers_cannot_tell_apart_are_looked_at_once() -> None:
    room = NodeRoom(
        name=NodeName("n"),
        gpus=tuple(GpuRoom(uuid=GpuUuid(f"g{number}"), usable=(1 + number // 4) * GIB) for number in range(8)),
        policy=Policy(),
    )
    assert {one.uuid for one in NodeLoad.of(room).distinct} == {"g0", "g4"}
