"""The equilibrium's golden figures, and what the solver answers at its edges."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import pytest

from arbiter.demand import Demand, Level
from arbiter.equilibrium import Equilibrium, GpuPrice, Member, Target, balance_exactly, solve
from arbiter.ids import GpuUuid, PodUid
from arbiter.policy import Policy
from arbiter.units import GIB, MIB
from arbiter.workload import MemoryPressure, PolicyMode, Priority, WorkloadType

A, B = GpuUuid("gpu-a"), GpuUuid("gpu-b")


def gib(size: str) -> int:
    return int(Fraction(size) * GIB)


def demand(
    kind: WorkloadType, priority: Priority, *, full: str, floor: str, minimum: str, maximum: str = "1"
) -> Demand:
    return Demand(
        workload_type=kind,
        priority=priority,
        full=gib(full),
        floor=gib(floor),
        maximum=Fraction(maximum),
        minimum=Fraction(minimum),
    )


def llm(priority: Priority, *, full: str = "10", floor: str = "4", maximum: str = "1") -> Demand:
    return demand(WorkloadType.LLM_INFERENCE, priority, full=full, floor=floor, minimum="0.4", maximum=maximum)


def image(priority: Priority, *, full: str = "6", floor: str = "1.8") -> Demand:
    return demand(WorkloadType.IMAGE_GENERATION, priority, full=full, floor=floor, minimum="0.3")


def video(priority: Priority) -> Demand:
    return demand(WorkloadType.VIDEO_GENERATION, priority, full="12", floor="3", minimum="0.25")


def fixed(size: str) -> Demand:
    return demand(WorkloadType.IMAGE_GENERATION, Priority.NORMAL, full=size, floor=size, minimum="1")


STEPS = tuple(Level(quality=Fraction(q), vram=gib(v)) for q, v in (("0.4", "4"), ("0.7", "7"), ("1", "10")))

LLM_AND_IMAGE = (llm(Priority.HIGH), image(Priority.BACKGROUND))
THREE_KINDS = (llm(Priority.NORMAL), image(Priority.NORMAL), video(Priority.LOW))
TWO_EQUAL = (llm(Priority.NORMAL), llm(Priority.NORMAL, maximum="0.5"))
FOUR_STEPPED = (replace(llm(Priority.NORMAL), levels=STEPS),) * 4


def members(demands: Sequence[Demand], *, gpus: tuple[GpuUuid, ...] = (A,)) -> list[Member]:
    """One member per demand, named 0, 1, … in their order."""
    return [Member(uid=PodUid(str(number)), demand=one, gpus=gpus) for number, one in enumerate(demands)]


@dataclass(frozen=True)
class Golden:
    """A row of the table: sizes in GiB, `None` for the quality of a held member."""

    capacity: str
    demands: Sequence[Demand]
    price: str
    qualities: Sequence[str | None]
    used: str
    threshold: str = "1"
    mode: PolicyMode = PolicyMode.ADAPTIVE
    held: str | None = None  # of the first member

    @property
    def members(self) -> list[Member]:
        first, *rest = members(self.demands)
        return [replace(first, held=gib(self.held)) if self.held else first, *rest]


def pair(
    capacity: str,
    price: str,
    qualities: tuple[str, str],
    used: str,
    *,
    threshold: str = "1",
    mode: PolicyMode = PolicyMode.ADAPTIVE,
) -> Golden:
    return Golden(capacity, LLM_AND_IMAGE, price, qualities, used, threshold, mode)


FULL = ("1.0000", "1.0000")
FIRST = PolicyMode.LLM_FIRST
DIFFUSION = PolicyMode.DIFFUSION_FIRST
BALANCED = PolicyMode.BALANCED

GOLDEN = {
    "a chat and posters share 12 GiB": pair("12", "0.3562", ("0.9041", "0.4932"), "12.000"),
    "the chat is favoured": pair("12", "0.3146", ("0.9270", "0.4551"), "12.000", mode=FIRST),
    "the posters are favoured": pair("12", "0.4242", ("0.7800", "0.7000"), "12.000", mode=DIFFUSION),
    "both are balanced": pair("12", "0.7823", ("0.8014", "0.6644"), "12.000", mode=BALANCED),
    "headroom is kept": pair("12", "0.4835", ("0.8341", "0.4549"), "11.070", threshold="0.85"),
    "threshold 0 is the reference's picture": pair("12", "0.7565", ("0.6839", "0.3731"), "9.078", threshold="0"),
    "what a 12 GiB card really has": pair("11.64", "0.4055", ("0.8770", "0.4784"), "11.640"),
    "24 GiB hold both at full quality": pair("24", "-1", FULL, "16.000"),
    "24 GiB hold both and the headroom": pair("24", "-1", FULL, "16.000", threshold="0.85"),
    "24 GiB, the chat favoured": pair("24", "-1", FULL, "16.000", mode=FIRST),
    "24 GiB, the posters favoured, headroom": pair("24", "-1", FULL, "16.000", mode=DIFFUSION, threshold="0.85"),
    "24 GiB, balanced": pair("24", "-1", FULL, "16.000", mode=BALANCED),
    "8 GiB": pair("8", "0.9041", ("0.6027", "0.3288"), "8.000"),
    "8 GiB are scarce where the posters are favoured": pair(
        "8", "1.4792", ("0.4950", "0.5083"), "8.000", mode=DIFFUSION
    ),
    "6 GiB leave the posters at their minimum": pair("6", "4.8667", ("0.4200", "0.3000"), "6.000"),
    "6 GiB and a threshold, which is spent": pair("6", "4.8667", ("0.4200", "0.3000"), "6.000", threshold="0.85"),
    "6 GiB and threshold 0": pair("6", "4.8667", ("0.4200", "0.3000"), "6.000", threshold="0"),
    "three kinds share 16 GiB": Golden("16", THREE_KINDS, "0.7500", ("0.6250", "0.6250", "0.5000"), "16.000"),
    "three kinds, diffusion favoured: the low video goes down": Golden(
        "16", THREE_KINDS, "2.2037", ("0.4500", "0.7000", "0.6083"), "16.000", mode=DIFFUSION
    ),
    "three kinds, balanced": Golden(
        "16", THREE_KINDS, "2.7287", ("0.7250", "0.7250", "0.3667"), "16.000", mode=BALANCED
    ),
    "alone and fitting": Golden("12", (llm(Priority.NORMAL, full="11", floor="4.4"),), "-1", ("1",), "11.000"),
    "a lower maximum scales the share": Golden("12", TWO_EQUAL, "0.4000", ("0.8000", "0.4000"), "12.000"),
    "a fixed image takes its bytes first": Golden(
        "12", (fixed("5"), llm(Priority.HIGH)), "0.7710", ("1.0000", "0.6760"), "11.760", threshold="0.85"
    ),
    "a held chat keeps 7 GiB": Golden(
        "12", (llm(Priority.NORMAL), image(Priority.BACKGROUND)), "-0.5833", (None, "0.8333"), "12.000", held="7"
    ),
    "four stepped chats: just enough of them go down": Golden(
        "27", FOUR_STEPPED, "0.6000", ("0.4", "0.7", "0.7", "0.7"), "25.000"
    ),
}


@pytest.mark.parametrize("row", GOLDEN.values(), ids=GOLDEN.keys())
def test_golden(row: Golden) -> None:
    policy = Policy(mode=row.mode, pressure_threshold=Fraction(row.threshold))
    capacities = {A: gib(row.capacity)}

    exact = balance_exactly(capacities, row.members, policy)

    qualities = [exact.qualities.get(member.uid) for member in row.members]
    assert [None if q is None else f"{float(q):.4f}" for q in qualities] == [
        None if q is None else f"{float(q):.4f}" for q in row.qualities
    ]
    assert f"{float(exact.prices[A]):.4f}" == f"{float(row.price):.4f}"
    used = sum(
        member.demand.memory(quality) if quality is not None else member.held or 0
        for member, quality in zip(row.members, qualities, strict=True)
    )
    assert f"{float(used) / GIB:.3f}" == row.used


def test_golden_two_gpus_that_one_chat_couples() -> None:
    first, second = image(Priority.BACKGROUND), image(Priority.NORMAL, full="8", floor="2")
    everybody = [
        Member(uid=PodUid("chat"), demand=llm(Priority.NORMAL), gpus=(A, B)),
        Member(uid=PodUid("posters"), demand=first, gpus=(A,)),
        Member(uid=PodUid("scans"), demand=second, gpus=(B,)),
    ]

    exact = balance_exactly({A: 12 * GIB, B: 12 * GIB}, everybody, Policy())

    assert {gpu: f"{float(price):.4f}" for gpu, price in exact.prices.items()} == {A: "-0.6795", B: "0.6462"}
    assert {uid: f"{float(quality):.4f}" for uid, quality in exact.qualities.items()} == {
        "chat": "0.6769",
        "posters": "0.8718",
        "scans": "0.6769",
    }
    for gpu in (A, B):
        here = [member for member in everybody if gpu in member.gpus]
        assert f"{float(sum(m.demand.memory(exact.qualities[m.uid]) for m in here)) / GIB:.3f}" == "12.000"


def test_what_is_published_of_the_demo() -> None:
    answer = solve({A: 12 * GIB}, members(LLM_AND_IMAGE), Policy())

    assert answer == Equilibrium(
        prices={
            A: GpuPrice(
                price=balance_exactly({A: 12 * GIB}, members(LLM_AND_IMAGE), Policy()).prices[A],
                used=12284 * MIB,
                capacity=12 * GIB,
                overcommitted=False,
            )
        },
        targets={
            PodUid("0"): Target(Fraction("0.904"), 9256 * MIB),
            PodUid("1"): Target(Fraction("0.493"), 3028 * MIB),
        },
    )


def test_a_gpu_whose_floors_do_not_fit_is_overcommitted_and_everybody_is_at_the_minimum() -> None:
    answer = solve({A: gib("5.5")}, members(LLM_AND_IMAGE), Policy())

    assert answer.prices[A] == GpuPrice(
        price=Fraction(6), used=4 * GIB + gib("1.8"), capacity=gib("5.5"), overcommitted=True
    )
    assert [target.quality for target in answer.targets.values()] == [Fraction("0.4"), Fraction("0.3")]


def test_held_bytes_beyond_the_gpu_overcommit_it_at_any_threshold() -> None:
    held = replace(members([llm(Priority.HIGH)])[0], held=8 * GIB)

    answer = solve({A: 6 * GIB}, [held], Policy(pressure_threshold=Fraction(0)))

    assert answer.prices[A] == GpuPrice(price=Fraction(6), used=8 * GIB, capacity=6 * GIB, overcommitted=True)
    assert answer.targets == {PodUid("0"): Target(None, 8 * GIB)}


def test_a_gpu_without_members_is_free() -> None:
    assert solve({A: 12 * GIB}, [], Policy()).prices == {
        A: GpuPrice(price=Fraction(-1), used=0, capacity=12 * GIB, overcommitted=False)
    }


def test_a_gpu_that_is_gone_leaves_its_members_at_their_minimum() -> None:
    answer = solve({A: 0}, members([llm(Priority.HIGH)]), Policy())

    assert answer.prices[A].overcommitted
    assert answer.targets == {PodUid("0"): Target(Fraction("0.4"), 4 * GIB)}


@pytest.mark.parametrize(
    "policy", [Policy(mode=PolicyMode.FIXED), Policy(adaptive=False)], ids=["mode Fixed", "not adaptive"]
)
def test_nobody_gives_way_for_the_others_quality_where_sizes_are_fixed(policy: Policy) -> None:
    exact = balance_exactly({A: 12 * GIB}, members(LLM_AND_IMAGE), policy)

    # Only scarcity counts: the posters (Background) go down from full, 2 GiB of the 6 remain for them.
    assert exact.qualities == {
        PodUid("0"): Fraction(1),
        PodUid("1"): Fraction("0.3") + (2 * GIB - gib("1.8")) / (Fraction(6 * GIB - gib("1.8")) / Fraction("0.7")),
    }


def test_bytes_that_no_quality_moves_and_threshold_0_are_the_reference_coordinator() -> None:
    rigid = replace(llm(Priority.HIGH), floor=10 * GIB), replace(image(Priority.BACKGROUND), floor=6 * GIB)

    exact = balance_exactly({A: 20 * GIB}, members(rigid), Policy(pressure_threshold=Fraction(0)))

    assert exact.prices[A] == Fraction(16, 20)
    assert exact.qualities == {
        PodUid("0"): Fraction("1.1") * Fraction("0.6"),
        PodUid("1"): Fraction("0.6") * Fraction("0.6"),
    }


def test_of_members_at_a_step_the_lowest_priority_goes_down_first() -> None:
    # Both leave their full quality as soon as the price rises above -1.
    stepped = [
        Member(uid=PodUid(uid), demand=replace(llm(priority), levels=STEPS), gpus=(A,))
        for uid, priority in (("a", Priority.LOW), ("z", Priority.BACKGROUND))
    ]

    answer = solve({A: gib("17")}, stepped, Policy())

    assert {uid: target.quality for uid, target in answer.targets.items()} == {"a": Fraction(1), "z": Fraction("0.7")}


def test_of_equals_at_a_step_the_first_uid_goes_down_first() -> None:
    stepped = [
        Member(uid=PodUid(uid), demand=replace(llm(priority), levels=STEPS), gpus=(A,))
        for uid, priority in (("b", Priority.NORMAL), ("a", Priority.NORMAL), ("z", Priority.NORMAL))
    ]

    answer = solve({A: gib("17")}, stepped, Policy())

    assert {uid: target.quality for uid, target in answer.targets.items()} == {
        "a": Fraction("0.4"),
        "b": Fraction("0.4"),
        "z": Fraction("0.7"),
    }


def test_a_step_that_two_equally_dear_gpus_share_goes_down_on_both() -> None:
    chat, neighbour = replace(llm(Priority.NORMAL), levels=STEPS), replace(llm(Priority.NORMAL), levels=STEPS)
    everybody = [
        Member(uid=PodUid("m"), demand=chat, gpus=(A, B)),
        Member(uid=PodUid("a"), demand=neighbour, gpus=(A,)),
        Member(uid=PodUid("z"), demand=neighbour, gpus=(B,)),
    ]

    answer = solve({A: 13 * GIB, B: 13 * GIB}, everybody, Policy())

    assert {uid: str(float(target.quality or 0)) for uid, target in answer.targets.items()} == {
        "m": "0.4",
        "a": "0.4",
        "z": "0.7",
    }
    assert all(price.used <= price.capacity for price in answer.prices.values())


@pytest.mark.parametrize(
    ("capacity", "pressure"),
    [
        ("16", MemoryPressure.LOW),
        ("14", MemoryPressure.MODERATE),
        ("12", MemoryPressure.HIGH),
        ("6", MemoryPressure.CRITICAL),
    ],
)
def test_pressure_is_the_price(capacity: str, pressure: MemoryPressure) -> None:
    assert solve({A: gib(capacity)}, members(LLM_AND_IMAGE), Policy()).prices[A].pressure is pressure


def test_a_member_on_a_gpu_without_a_capacity_is_an_error() -> None:
    with pytest.raises(KeyError):
        solve({B: GIB}, members(LLM_AND_IMAGE), Policy())


def test_a_change_on_one_gpu_solves_no_other_anew() -> None:
    here, there = members(LLM_AND_IMAGE), [replace(m, uid=PodUid(f"b{m.uid}"), gpus=(B,)) for m in members(THREE_KINDS)]

    before = solve({A: 12 * GIB, B: 16 * GIB}, [*here, *there], Policy())
    after = solve({A: 12 * GIB, B: 16 * GIB}, [*here[1:], *there], Policy())

    assert after.prices[A] != before.prices[A]
    assert after.prices[B] is before.prices[B]
    assert all(after.targets[member.uid] is before.targets[member.uid] for member in there)


def test_gpus_that_a_member_couples_are_solved_together_and_apart_from_the_rest() -> None:
    c = GpuUuid("gpu-c")
    coupled = [
        Member(uid=PodUid("chat"), demand=llm(Priority.NORMAL), gpus=(A, B)),
        Member(uid=PodUid("posters"), demand=image(Priority.NORMAL), gpus=(A,)),
        Member(uid=PodUid("scans"), demand=image(Priority.NORMAL), gpus=(B,)),
    ]
    alone = Member(uid=PodUid("alone"), demand=llm(Priority.HIGH), gpus=(c,))

    node = solve({A: 12 * GIB, c: 8 * GIB, B: 10 * GIB}, [alone, *coupled], Policy())

    assert [*node.prices] == [A, c, B]
    assert [*node.targets] == ["alone", "chat", "posters", "scans"]
    apart = solve({c: 8 * GIB}, [alone], Policy())
    together = solve({A: 12 * GIB, B: 10 * GIB}, coupled, Policy())
    assert node.prices == {**apart.prices, **together.prices}
    assert node.targets == {**apart.targets, **together.targets}
