"""Traces placed on a cluster that is not there: who arrives, what each rule does with them, and what is counted."""

from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice

import pytest

from arbiter.simulation import EmptyTraceError, Outcome, Rule, Sample, TraceNode, TracePod, simulate
from arbiter.simulation.baselines import Baseline, BestFit, Fgd, RandomFit
from arbiter.simulation.trace import arrivals

WHOLE = TracePod(cpu=1000, memory=1024, gpus=1, milli=1000)
HALF = replace(WHOLE, milli=500)
MOST = replace(WHOLE, milli=800)
PAIR = replace(WHOLE, gpus=2)
CPU_ONLY = replace(WHOLE, gpus=0, milli=0)


def machine(name: str, *, gpus: int = 2, cpu: int = 64_000, memory: int = 65_536, model: str = "T4") -> TraceNode:
    return TraceNode(name=name, cpu=cpu, memory=memory, gpus=gpus, model=model)


def test_everybody_arrives_once_before_anybody_comes_again() -> None:
    pods = [replace(WHOLE, cpu=number) for number in range(20)]
    stream = arrivals(pods, seed=1)

    first = [*islice(stream, 20)]
    assert Counter(first) == Counter(pods)
    assert first != pods
    assert {*islice(stream, 50)} <= {*pods}
    assert [*islice(arrivals(pods, seed=1), 30)] == [*islice(arrivals(pods, seed=1), 30)]
    assert [*islice(arrivals(pods, seed=2), 20)] != first


@pytest.mark.parametrize("rule", Rule)
def test_what_arrives_is_admitted_until_the_cluster_is_full(rule: Rule) -> None:
    outcome = simulate([machine("a"), machine("b")], [WHOLE], rule, seed=1, until=150)

    assert outcome.samples == tuple(Sample(*[25.0 * -(-percent // 25)] * 3) for percent in range(1, 101)) + tuple(
        Sample(25.0 * -(-percent // 25), 100.0, 100.0) for percent in range(101, 151)
    )
    assert (outcome.placed, outcome.rejected, outcome.quality) == (4, 2, 1.0)


def test_pods_that_may_shrink_are_admitted_beyond_the_full_sizes() -> None:
    rigid = simulate([machine("a")], [MOST], Rule.OURS, seed=1)
    elastic = simulate([machine("a")], [MOST], Rule.OURS, seed=1, floor=Fraction("0.6"))
    too_big = simulate([machine("a")], [MOST], Rule.OURS, seed=1, floor=Fraction("0.7"))

    # Three come, 240 percent of 200: two GPUs take two of 0.8, a third has room beside one of them at 0.625 each.
    assert (rigid.end, rigid.placed, rigid.quality) == (Sample(120.0, 80.0, 80.0), 2, 1.0)
    assert (elastic.end, elastic.placed) == (Sample(120.0, 120.0, 90.0), 3)
    assert elastic.quality == pytest.approx((1 + 0.625 + 0.625) / 3, abs=0.0005)
    assert too_big.end == rigid.end


def test_only_parts_of_a_gpu_shrink() -> None:
    outcome = simulate([machine("a")], [WHOLE], Rule.OURS, seed=1, until=150, floor=Fraction("0.1"))
    assert (outcome.placed, outcome.rejected, outcome.quality) == (2, 1, 1.0)


@pytest.mark.parametrize("rule", Rule)
@pytest.mark.parametrize(
    ("node", "pod"),
    [
        (machine("a", cpu=500), WHOLE),
        (machine("a", memory=512), WHOLE),
        (machine("a", gpus=1), PAIR),
        (machine("a"), replace(WHOLE, models=frozenset({"P100"}))),
    ],
    ids=["CPU", "memory", "two GPUs", "another model"],
)
def test_nobody_is_placed_where_something_is_missing(rule: Rule, node: TraceNode, pod: TracePod) -> None:
    outcome = simulate([node], [pod], rule, seed=1)
    assert outcome.placed == 0
    assert outcome.end.allocated == 0


@pytest.mark.parametrize("rule", Rule)
def test_pods_without_gpus_take_cpu_and_no_gpu(rule: Rule) -> None:
    outcome = simulate([machine("a", cpu=3000)], [CPU_ONLY, CPU_ONLY, WHOLE], rule, seed=1)
    assert outcome.placed == 3
    assert outcome.end.allocated == 50


@pytest.mark.parametrize("rule", Rule)
def test_the_same_seed_gives_the_same_answer(rule: Rule) -> None:
    nodes, pods = [machine(f"n{number}") for number in range(4)], [WHOLE, HALF, HALF, MOST]

    def answer(seed: int) -> Outcome:
        return replace(simulate(nodes, pods, rule, seed=seed), seconds=0.0)

    assert answer(1) == answer(1)


@pytest.mark.parametrize(
    ("nodes", "pods", "sentence"),
    [
        ([machine("a", gpus=0)], [WHOLE], "no node has a GPU"),
        ([machine("a")], [CPU_ONLY], "no pod asks for a GPU"),
    ],
)
def test_nothing_to_simulate_is_a_sentence(nodes: list[TraceNode], pods: list[TracePod], sentence: str) -> None:
    with pytest.raises(EmptyTraceError, match=f"^{sentence}$"):
        simulate(nodes, pods, Rule.OURS, seed=1)


@dataclass(frozen=True)
class Spot:
    """Who is there already, who comes, and what is idle then, by node."""

    placer: Baseline
    before: tuple[TracePod, ...]
    newcomer: TracePod
    expected: tuple[tuple[int, ...], ...]


LARGE, SMALL = machine("a", gpus=4), machine("b", gpus=1)
SPOTS = {
    "best-fit takes the node with the least left": Spot(
        BestFit([LARGE, SMALL]), (), HALF, ((1000, 1000, 1000, 1000), (500,))
    ),
    "best-fit takes the tightest GPU of a node": Spot(
        BestFit([machine("a", gpus=3)]), (MOST, HALF), HALF, ((200, 0, 1000),)
    ),
    "best-fit counts CPU for half": Spot(
        BestFit([machine("a", gpus=1), machine("b", gpus=1, cpu=2000)]), (), HALF, ((1000,), (500,))
    ),
    "random takes any node, and there the tightest GPU": Spot(
        RandomFit([machine("a")], seed=1), (HALF,), HALF, ((0, 1000),)
    ),
    "FGD keeps whole GPUs for those who need them": Spot(
        Fgd([machine("a", gpus=1), machine("b", gpus=2)], expected=[WHOLE]), (HALF,), HALF, ((0,), (1000, 1000))
    ),
    "FGD leaves room where an expected pod fits": Spot(
        Fgd(
            [machine("a", gpus=1), machine("b", gpus=1, model="P100")],
            expected=[replace(WHOLE, models=frozenset({"T4"}))],
        ),
        (),
        HALF,
        ((1000,), (500,)),
    ),
    "FGD takes the best fit of nodes that are as good": Spot(
        Fgd([LARGE, SMALL], expected=[HALF]), (), HALF, ((1000, 1000, 1000, 1000), (500,))
    ),
}


@pytest.mark.parametrize("spot", SPOTS.values(), ids=SPOTS.keys())
def test_a_placement_to_compare_with(spot: Spot) -> None:
    for pod in (*spot.before, spot.newcomer):
        assert spot.placer.place(pod)
    assert spot.placer.idle() == spot.expected
