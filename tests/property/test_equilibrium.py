"""What the equilibrium promises, on random members, and a slow reference that was written apart from it."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from arbiter.demand import Demand, DemandRequest, Level, resolve
from arbiter.equilibrium import Equilibrium, Member, balance_exactly, solve
from arbiter.ids import GpuUuid, PodUid
from arbiter.policy import Policy
from arbiter.units import GIB, MIB
from arbiter.workload import PolicyMode, Priority, WorkloadType

A, B, C = (GpuUuid(f"gpu-{letter}") for letter in "abc")

kinds = st.sampled_from(WorkloadType)
priorities = st.sampled_from(Priority)
mebibytes = st.integers(256, 24 * 1024)
policies = st.builds(
    Policy,
    mode=st.sampled_from(PolicyMode),
    adaptive=st.sampled_from([True, True, True, False]),
    pressure_threshold=st.sampled_from([Fraction(1), Fraction(1), Fraction("0.85"), Fraction("0.5"), Fraction(0)]),
)


@st.composite
def demands(draw: st.DrawFn, *, stepped: bool | None = None) -> Demand:
    """`stepped`: with levels, or without; None: either."""
    full = draw(mebibytes) * MIB
    maximum = draw(st.sampled_from([Fraction(1), Fraction(1), Fraction("0.8"), Fraction("0.5")]))
    floor = draw(st.none() | st.integers(full // MIB // 10, full // MIB).map(lambda mib: max(1, mib) * MIB))
    demand = resolve(
        DemandRequest(workload_type=draw(kinds), priority=draw(priorities), full=full, floor=floor, maximum=maximum)
    )
    if demand.is_fixed or not (draw(st.booleans()) if stepped is None else stepped):
        assume(not stepped)
        return demand
    thousandths = range(int(demand.minimum * 1000) + 1, int(demand.maximum * 1000))
    between = range(demand.floor + 1, demand.full)
    steps = draw(st.integers(0, min(3, len(thousandths))))
    qualities = draw(st.sets(st.sampled_from(thousandths), min_size=steps, max_size=steps)) if steps else set()
    sizes = draw(st.sets(st.sampled_from(between), min_size=steps, max_size=steps)) if steps else set()
    inner = [
        Level(quality=Fraction(quality, 1000), vram=size)
        for quality, size in zip(sorted(qualities), sorted(sizes), strict=True)
    ]
    ends = Level(quality=demand.minimum, vram=demand.floor), Level(quality=demand.maximum, vram=demand.full)
    return replace(demand, levels=(ends[0], *inner, ends[1]))


@st.composite
def crowds(
    draw: st.DrawFn, *, stepped: bool | None = None, gpus: tuple[GpuUuid, ...] = (A,), least: int = 1
) -> list[Member]:
    """Members of some of `gpus` each, some of them held."""
    everybody = []
    for number in range(draw(st.integers(least, 6))):
        demand = draw(demands(stepped=stepped))
        if stepped is None and draw(st.integers(0, 5)) == 0:
            held = draw(st.integers(demand.floor, demand.full))
        else:
            held = None
        here = tuple(sorted(draw(st.sets(st.sampled_from(gpus), min_size=1, max_size=len(gpus)))))
        everybody.append(Member(uid=PodUid(f"{number}"), demand=demand, gpus=here, held=held))
    return everybody


capacities = st.integers(1024, 64 * 1024).map(lambda mib: mib * MIB)


def least(members: list[Member], gpu: GpuUuid = A) -> int:
    return sum(m.demand.floor if m.held is None else m.held for m in members if gpu in m.gpus)


def most(members: list[Member], gpu: GpuUuid = A) -> int:
    return sum(m.demand.full if m.held is None else m.held for m in members if gpu in m.gpus)


@st.composite
def shares(draw: st.DrawFn, members: st.SearchStrategy[list[Member]]) -> tuple[int, list[Member]]:
    """A crowd of one GPU, and a capacity between what it needs and a little more than it wants."""
    crowd = draw(members)
    return draw(st.integers(least(crowd), most(crowd) + GIB)), crowd


def nobody_has_more(after: Equilibrium, before: Equilibrium) -> bool:
    return all(
        target.vram <= before.targets[uid].vram and (target.quality or 0) <= (before.targets[uid].quality or 0)
        for uid, target in after.targets.items()
        if uid in before.targets
    )


@given(shares(crowds(least=2)), policies)
def test_nobody_gains_by_an_arrival_and_nobody_loses_by_a_departure(
    share: tuple[int, list[Member]], policy: Policy
) -> None:
    capacity, crowd = share
    for absent in crowd:
        without = solve({A: capacity}, [member for member in crowd if member is not absent], policy)
        assert nobody_has_more(solve({A: capacity}, crowd, policy), without)


@given(crowds(), capacities, st.integers(0, 8 * GIB), policies)
def test_more_capacity_harms_nobody(crowd: list[Member], capacity: int, more: int, policy: Policy) -> None:
    assert nobody_has_more(solve({A: capacity}, crowd, policy), solve({A: capacity + more}, crowd, policy))


@given(st.data(), policies, capacities, capacities)
def test_the_order_of_members_and_gpus_is_irrelevant(
    data: st.DataObject, policy: Policy, first: int, second: int
) -> None:
    crowd = data.draw(crowds(gpus=(A, B)))
    shuffled = data.draw(st.permutations(crowd))
    assert solve({A: first, B: second}, crowd, policy) == solve({B: second, A: first}, shuffled, policy)


@given(st.data(), policies)
def test_feasible_on_every_gpu_where_floors_and_held_fit(data: st.DataObject, policy: Policy) -> None:
    crowd = data.draw(crowds(gpus=(A, B, C)))
    sizes = {gpu: data.draw(st.integers(least(crowd, gpu), most(crowd, gpu) + GIB)) for gpu in (A, B, C)}
    answer = solve(sizes, crowd, policy)
    for price in answer.prices.values():
        assert not price.overcommitted
        assert price.used <= price.capacity


@given(crowds(), capacities, policies)
def test_a_floor_is_never_touched_and_a_maximum_never_exceeded(
    crowd: list[Member], capacity: int, policy: Policy
) -> None:
    answer = solve({A: capacity}, crowd, policy)
    for member in crowd:
        target = answer.targets[member.uid]
        if member.held is not None:
            assert (target.quality, target.vram) == (None, member.held)
        else:
            assert member.demand.floor <= target.vram <= member.demand.full
            assert target.quality is not None
            assert member.demand.minimum <= target.quality <= member.demand.maximum
    assert answer.prices[A].overcommitted == (least(crowd) > capacity)


@given(shares(crowds(stepped=False)))
def test_every_byte_is_used_while_somebody_is_below_the_maximum(share: tuple[int, list[Member]]) -> None:
    capacity, crowd = share
    exact = balance_exactly({A: capacity}, crowd, Policy())
    used = sum(member.demand.memory(exact.qualities[member.uid]) for member in crowd)
    assert used == min(capacity, most(crowd))

    published = solve({A: capacity}, crowd, Policy()).prices[A].used
    # Rounding down costs each at most a thousandth of quality and then a MiB.
    lost = sum(
        MIB + (m.demand.full - m.demand.floor) / (1000 * (m.demand.maximum - m.demand.minimum))
        for m in crowd
        if not m.demand.is_fixed
    )
    assert used - lost <= published <= used


@given(shares(crowds(stepped=True)))
def test_with_levels_no_member_could_go_up_a_level_and_all_still_fit_at_its_price(
    share: tuple[int, list[Member]],
) -> None:
    capacity, crowd = share
    answer = solve({A: capacity}, crowd, Policy())
    price = answer.prices[A].price
    spare = capacity - answer.prices[A].used
    dropped = [member for member in crowd if (slow_memory(member, price, Policy()) > answer.targets[member.uid].vram)]
    if dropped:  # the last one to go down was needed
        last = max(dropped, key=lambda member: (member.demand.priority.level, member.uid))
        assert slow_memory(last, price, Policy()) - answer.targets[last.uid].vram > spare
    else:
        assert price == -1 or spare == 0 or answer.prices[A].used == least(crowd)


@given(st.data(), policies)
def test_a_member_of_several_gpus_has_the_quality_of_its_dearest(data: st.DataObject, policy: Policy) -> None:
    crowd = data.draw(crowds(stepped=False, gpus=(A, B, C)))
    sizes = {gpu: data.draw(st.integers(least(crowd, gpu), most(crowd, gpu) + GIB)) for gpu in (A, B, C)}
    exact = balance_exactly(sizes, crowd, policy)
    for member in crowd:
        dearest = max(exact.prices[gpu] for gpu in member.gpus)
        assert exact.qualities[member.uid] == slow_quality(member.demand, dearest, policy)


# --- The slow reference: the formulas of the design once more, point by point, and a bisection over the price. ---


def slow_reference(demand: Demand, pressure: Fraction, policy: Policy) -> Fraction:
    if not policy.adaptive or policy.mode is PolicyMode.FIXED:
        return Fraction(1)
    half, tenth = Fraction(1, 2), Fraction(1, 10)
    factor = [6, 8, 10, 11, 12][demand.priority.level] * tenth
    b = min(Fraction(1), max(demand.minimum, (1 - half * pressure) * factor))
    diffusion = demand.workload_type is not WorkloadType.LLM_INFERENCE
    table: dict[PolicyMode, tuple[Callable[[], Fraction], Callable[[], Fraction]]] = {
        PolicyMode.ADAPTIVE: (lambda: b, lambda: b),
        PolicyMode.LLM_FIRST: (lambda: max(b, 7 * tenth), lambda: 9 * tenth * b),
        PolicyMode.DIFFUSION_FIRST: (lambda: 9 * tenth * b, lambda: max(b, 7 * tenth)),
        PolicyMode.BALANCED: (lambda: half + Fraction(45, 100) * b, lambda: half + Fraction(45, 100) * b),
    }
    return table[policy.mode][diffusion]()


def slow_quality(demand: Demand, price: Fraction, policy: Policy) -> Fraction:
    def r(pressure: Fraction) -> Fraction:
        wanted = demand.maximum * slow_reference(demand, pressure, policy)
        return min(demand.maximum, max(demand.minimum, wanted))

    if price <= 0:
        return demand.maximum + (1 + price) * (r(Fraction(0)) - demand.maximum)
    if price <= 1:
        return r(price)
    share = min(Fraction(1), max(Fraction(0), price - 1 - demand.priority.level))
    return r(Fraction(1)) + share * (demand.minimum - r(Fraction(1)))


def slow_memory(member: Member, price: Fraction, policy: Policy) -> Fraction:
    demand = member.demand
    if member.held is not None:
        return Fraction(member.held)
    if demand.floor == demand.full:
        return Fraction(demand.full)
    quality = slow_quality(demand, price, policy)
    if demand.levels:
        return Fraction(max(level.vram for level in demand.levels if level.quality <= quality))
    share = (quality - demand.minimum) / (demand.maximum - demand.minimum)
    return demand.floor + share * (demand.full - demand.floor)


def slow_price(capacity: int, crowd: list[Member], policy: Policy) -> tuple[Fraction, Fraction]:
    """Two prices between which the lowest one lies at which the crowd fits."""
    rigid = sum(slow_memory(m, Fraction(6), policy) for m in crowd if m.held is not None or m.demand.is_fixed)

    def fits(price: Fraction) -> bool:
        open_share = min(Fraction(1), max(Fraction(0), price))
        theta = policy.pressure_threshold
        room = rigid + (capacity - rigid) * (theta + (1 - theta) * open_share)
        return sum(slow_memory(member, price, policy) for member in crowd) <= room

    low, high = Fraction(-1), Fraction(6)
    if fits(low):
        return low, low
    while high - low > Fraction(1, 1 << 40):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return low, high


@settings(max_examples=100)
@given(shares(crowds()), policies)
def test_the_price_is_the_one_that_the_slow_reference_finds(share: tuple[int, list[Member]], policy: Policy) -> None:
    capacity, crowd = share
    exact = balance_exactly({A: capacity}, crowd, policy)
    low, high = slow_price(capacity, crowd, policy)
    assert low <= exact.prices[A] <= high
    for member in crowd:
        if member.held is None:
            upper = max(level.quality for level in member.demand.levels) if member.demand.levels else None
            wanted = slow_quality(member.demand, exact.prices[A], policy)
            if upper is None:
                assert exact.qualities[member.uid] == wanted
            else:
                assert exact.qualities[member.uid] <= wanted


TINY = Fraction(1, 1 << 200)
"""Less than what lies between any two prices at which something changes."""


def slow_excess(
    capacity: int, crowd: list[Member], price: Fraction, policy: Policy, frozen: dict[PodUid, Fraction]
) -> Fraction:
    """Bytes beyond what members of one GPU may use at `price`; `frozen`: qualities that other GPUs have decided."""
    rigid = wanted = Fraction(0)
    for member in crowd:
        if member.uid in frozen:
            rigid += member.demand.memory(frozen[member.uid])
        elif member.held is not None or member.demand.is_fixed:
            rigid += slow_memory(member, price, policy)
        else:
            wanted += slow_memory(member, price, policy)
    room = capacity - rigid
    theta = policy.pressure_threshold
    return wanted - min(room, room * (theta + (1 - theta) * min(Fraction(1), max(Fraction(0), price))))


def slow_settled(
    excess: dict[GpuUuid, Fraction], crowd: list[Member], price: Fraction, policy: Policy
) -> dict[PodUid, Fraction]:
    """Qualities at a price that is final for these GPUs; those that jump there drop in order while it does not fit."""
    qualities = {}
    for member in sorted(crowd, key=lambda member: (member.demand.priority.level, member.name, member.uid)):
        size, after = (slow_memory(member, at, policy) for at in (price, price + TINY))
        here = [gpu for gpu in member.gpus if gpu in excess]
        drops = bool(member.demand.levels) and after < size and any(excess[gpu] > 0 for gpu in here)
        if drops:
            for gpu in here:
                excess[gpu] += after - size
        quality = slow_quality(member.demand, price + TINY if drops else price, policy)
        if member.demand.levels:
            quality = max(level.quality for level in member.demand.levels if level.quality <= quality)
        qualities[member.uid] = quality
    return qualities


@given(st.data(), policies)
def test_prices_and_qualities_are_exactly_those_of_the_definition(data: st.DataObject, policy: Policy) -> None:
    crowd = data.draw(crowds(gpus=(A, B, C)))
    sizes = {gpu: data.draw(st.integers(0, most(crowd, gpu) + GIB)) for gpu in (A, B, C)}
    exact = balance_exactly(sizes, crowd, policy)
    frozen: dict[PodUid, Fraction] = {}
    for price in sorted({*exact.prices.values()}, reverse=True):
        excess = {}
        for gpu in (gpu for gpu in (A, B, C) if exact.prices[gpu] == price):
            here = [member for member in crowd if gpu in member.gpus]
            assert price == 6 or slow_excess(sizes[gpu], here, price + TINY, policy, frozen) <= 0
            assert price == -1 or slow_excess(sizes[gpu], here, price - TINY, policy, frozen) > 0
            excess[gpu] = slow_excess(sizes[gpu], here, price, policy, frozen)
        movable = [
            member
            for member in crowd
            if member.uid not in frozen and member.held is None and not member.demand.is_fixed
            if any(gpu in excess for gpu in member.gpus)
        ]
        frozen |= slow_settled(excess, movable, price, policy)
    for member in crowd:
        if member.held is None and member.demand.is_fixed:
            frozen[member.uid] = member.demand.maximum
    assert exact.qualities == frozen
