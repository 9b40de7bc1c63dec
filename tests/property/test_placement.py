"""The index of placement against its claims, on random histories of a few nodes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from random import Random
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from arbiter.demand import Demand, DemandRequest, resolve
from arbiter.equilibrium import Member
from arbiter.ids import GpuUuid, NodeName, OwnerUid, PodUid
from arbiter.placement import Choice, GpuRoom, Idle, Newcomer, NodeRoom, Placement, Strategy, index, offers, spots
from arbiter.placement.load import Kind, NodeLoad, Wish
from arbiter.placement.mix import Mix
from arbiter.policy import Policy
from arbiter.units import GIB
from arbiter.workload import Priority, WorkloadType


def _demand(full: int, floor: int, priority: Priority, count: int) -> Demand:
    return resolve(
        DemandRequest(
            workload_type=WorkloadType.LLM_INFERENCE,
            priority=priority,
            full=full * GIB,
            floor=min(full, floor) * GIB,
            gpu_count=count,
        )
    )


demands = st.builds(
    _demand, st.integers(1, 14), st.integers(1, 14), st.sampled_from(Priority), st.sampled_from((1, 1, 1, 2))
)
newcomers = st.builds(Newcomer, demand=demands, owner=st.sampled_from((None, OwnerUid("a"), OwnerUid("b"))))


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[NodeRoom], list[Newcomer]]:
    """Empty nodes, and who comes."""
    sizes = st.lists(st.sampled_from((8, 12, 24)), min_size=1, max_size=4)
    shapes = draw(st.lists(st.tuples(sizes, st.booleans()), min_size=1, max_size=5))
    nodes = [
        NodeRoom(
            name=NodeName(f"n{number}"),
            gpus=tuple(
                GpuRoom(
                    uuid=GpuUuid(f"n{number}-{at}"),
                    usable=size * GIB,
                    links=frozenset({GpuUuid(f"n{number}-{at ^ 1}")}) if is_linked else frozenset(),
                )
                for at, size in enumerate(shape)
            ),
            policy=Policy(),
            unit=GIB,
        )
        for number, (shape, is_linked) in enumerate(shapes)
    ]
    return nodes, draw(st.lists(newcomers, min_size=1, max_size=12))


def joined(node: NodeRoom, newcomer: Newcomer, choice: Choice, *, uid: str) -> NodeRoom:
    """The node once the newcomer runs there."""
    member = Member(uid=PodUid(uid), demand=newcomer.demand, gpus=choice.gpus)
    owners = (newcomer.owner,) if newcomer.owner else ()
    return replace(
        node,
        gpus=tuple(
            replace(gpu, members=(*gpu.members, member), owners=(*gpu.owners, *owners))
            if gpu.uuid in choice.gpus
            else gpu
            for gpu in node.gpus
        ),
    )


@contextmanager
def learning(at_once: bool) -> Iterator[None]:
    """Packs for those who run as they are at each moment, or for nobody."""
    with (
        patch.object(index, "FEWEST", 1 if at_once else inf),
        patch.object(index, "PATIENCE", 0),
        patch.object(index, "DRIFT", 0),
        patch.object(offers, "FEW", 1),
        patch.object(spots, "FEW", 1),
        patch.object(index, "SPARSE", 2),
    ):
        yield


@settings(max_examples=60, deadline=None)
@given(histories(), st.sampled_from(Strategy), st.booleans(), st.randoms(use_true_random=False))
def test_an_index_that_is_kept_up_answers_as_one_that_is_built_anew(
    history: tuple[list[NodeRoom], list[Newcomer]], strategy: Strategy, learns: bool, random: Random
) -> None:
    with learning(at_once=learns):
        check_against_anew(*history, strategy=strategy, random=random)


def check_against_anew(nodes: list[NodeRoom], coming: list[Newcomer], *, strategy: Strategy, random: Random) -> None:
    rooms = {node.name: node for node in nodes}
    kept = Placement(strategy)
    for node in nodes:
        kept.put(node)
    for number, newcomer in enumerate(coming):
        anew = Placement(strategy)
        for node in random.sample([*rooms.values()], k=len(rooms)):
            anew.put(node)
        among = random.choice([None, random.sample([*rooms], k=random.randint(1, len(rooms)))])
        choice = kept.choose(newcomer, among)

        assert choice == anew.choose(newcomer, among)
        assert {*kept.fitting(newcomer, among)} == {*anew.fitting(newcomer, among)}
        assert (choice is not None) == bool(kept.fitting(newcomer, among))
        if choice is not None and random.random() < 0.8:
            rooms[choice.node] = joined(rooms[choice.node], newcomer, choice, uid=f"p{number}")
            kept.put(rooms[choice.node])
        else:
            gone = random.choice([*rooms])
            rooms[gone] = next(node for node in nodes if node.name == gone)
            kept.remove(gone)
            kept.put(rooms[gone])


@settings(max_examples=60, deadline=None)
@given(histories(), st.sampled_from(Strategy), st.booleans())
def test_floors_never_exceed_a_gpu(
    history: tuple[list[NodeRoom], list[Newcomer]], strategy: Strategy, learns: bool
) -> None:
    with learning(at_once=learns):
        check_floors(*history, strategy=strategy)


def check_floors(nodes: list[NodeRoom], coming: list[Newcomer], *, strategy: Strategy) -> None:
    rooms = {node.name: node for node in nodes}
    placement = Placement(strategy)
    for node in nodes:
        placement.put(node)
    for number, newcomer in enumerate(coming):
        choice = placement.choose(newcomer)
        if choice is None:
            continue
        assert len({*choice.gpus}) == newcomer.demand.gpu_count
        rooms[choice.node] = joined(rooms[choice.node], newcomer, choice, uid=f"p{number}")
        placement.put(rooms[choice.node])
        for gpu in rooms[choice.node].gpus:
            floors = sum(member.demand.floor for member in gpu.members)
            assert floors <= gpu.usable
            # Whoever is on two GPUs may have given way on the other one already, and then a loss of 0 says less.
            if choice.spare >= 0 and gpu.uuid in choice.gpus:
                assert sum(member.demand.full for member in gpu.members) <= gpu.usable


kinds = st.builds(
    Kind,
    st.integers(1, 12).map(lambda size: size * GIB),
    st.sampled_from((1, 1, 2, 4)),
    st.just(0),
    st.just(frozenset()),
)
idles = st.lists(st.integers(0, 16), min_size=1, max_size=8)


@given(st.dictionaries(kinds, st.floats(0.1, 1.0), min_size=1, max_size=6), idles, st.integers(1, 16), st.data())
def test_gpus_count_alone_where_cpu_is_not_known_as_they_do_beside_enough_of_it(
    shares: dict[Kind, float], idle: list[int], full: int, data: st.DataObject
) -> None:
    room = NodeRoom(
        name=NodeName("n"),
        gpus=tuple(GpuRoom(uuid=GpuUuid(f"g{at}"), usable=size * GIB) for at, size in enumerate(idle)),
        policy=Policy(),
    )
    unknown, plenty = NodeLoad.of(room), NodeLoad.of(replace(room, idle=Idle(cpu=10**9, memory=0)))
    mix = Mix.of(shares, [unknown])
    chosen = data.draw(st.integers(0, len(idle) - 1))
    if mix is None or idle[chosen] < full:
        return
    wish = Wish(floor=full * GIB, full=full * GIB, gpus=1, weight=0)

    alone = mix.worsening(unknown, (unknown.gpus[chosen],), wish, cpu=0)
    beside = mix.worsening(plenty, (plenty.gpus[chosen],), wish, cpu=0)
    assert abs(alone - beside) <= 1  # sums of floats in another order may fall on the other side of a step
