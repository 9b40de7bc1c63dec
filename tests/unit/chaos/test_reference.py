"""The chaos tests' own solver, held against the figures that docs/quality.md gives."""

from dataclasses import replace

import pytest

from tests.cluster.chaos.reference import GIB, Demand, Member, Rules, equilibrium

LEAST = {"LlmInference": 0.4, "ImageGeneration": 0.3, "VideoGeneration": 0.25}


def wanting(kind: str, priority: str, full: float, floor: float, *, maximum: float = 1.0) -> Demand:
    return Demand(
        workload_type=kind,
        priority=priority,
        full=int(full * GIB),
        floor=int(floor * GIB),
        maximum=maximum,
        minimum=LEAST[kind],
    )


LLM, IMAGE, VIDEO = "LlmInference", "ImageGeneration", "VideoGeneration"
STEPPED = replace(wanting(LLM, "Normal", 10, 4), levels=((0.4, 4 * GIB), (0.7, 7 * GIB), (1.0, 10 * GIB)))
PAIR = (wanting(LLM, "High", 10, 4), wanting(IMAGE, "Background", 6, 1.8))
THREE = (wanting(LLM, "Normal", 10, 4), wanting(IMAGE, "Normal", 6, 1.8), wanting(VIDEO, "Low", 12, 3))
ALONE = (wanting(LLM, "Normal", 11, 4.4),)
HALVED = (wanting(LLM, "Normal", 10, 4), wanting(LLM, "Normal", 10, 4, maximum=0.5))
BESIDE_FIXED = (replace(wanting(IMAGE, "Normal", 5, 5), minimum=1.0), wanting(LLM, "High", 10, 4))

GOLDEN = [
    (12, PAIR, Rules(), (0.9041, 0.4932)),
    (12, PAIR, Rules(mode="LlmFirst"), (0.9270, 0.4551)),
    (12, PAIR, Rules(mode="DiffusionFirst"), (0.7800, 0.7000)),
    (12, PAIR, Rules(mode="Balanced"), (0.8014, 0.6644)),
    (12, PAIR, Rules(threshold=0.85), (0.8341, 0.4549)),
    (12, PAIR, Rules(threshold=0.0), (0.6839, 0.3731)),
    (11.64, PAIR, Rules(), (0.8770, 0.4784)),
    (24, PAIR, Rules(threshold=0.85), (1, 1)),
    (8, PAIR, Rules(), (0.6027, 0.3288)),
    (8, PAIR, Rules(mode="DiffusionFirst"), (0.4950, 0.5083)),
    (6, PAIR, Rules(), (0.4200, 0.3000)),
    (16, THREE, Rules(), (0.6250, 0.6250, 0.5000)),
    (16, THREE, Rules(mode="DiffusionFirst"), (0.4500, 0.7000, 0.6083)),
    (16, THREE, Rules(mode="Balanced"), (0.7250, 0.7250, 0.3667)),
    (12, ALONE, Rules(), (1,)),
    (12, HALVED, Rules(), (0.8, 0.4)),
    (12, BESIDE_FIXED, Rules(threshold=0.85), (1, 0.6760)),
    (27, (STEPPED,) * 4, Rules(), (0.4, 0.7, 0.7, 0.7)),
]


@pytest.mark.parametrize(("capacity", "demands", "rules", "qualities"), GOLDEN)
def test_it_knows_the_golden_figures(
    capacity: float, demands: tuple[Demand, ...], rules: Rules, qualities: tuple[float, ...]
) -> None:
    members = [Member(uid=str(number), demand=demand, gpus=("gpu",)) for number, demand in enumerate(demands)]
    solved = equilibrium({"gpu": int(capacity * GIB)}, members, rules)
    assert [solved[member.uid] for member in members] == pytest.approx(qualities, abs=0.0011)


def test_what_is_held_keeps_its_bytes_and_the_rest_share_what_is_left() -> None:
    members = [
        Member(uid="held", demand=wanting(LLM, "Normal", 10, 4), gpus=("gpu",), held=7 * GIB),
        Member(uid="image", demand=wanting(IMAGE, "Background", 6, 1.8), gpus=("gpu",)),
    ]
    assert equilibrium({"gpu": 12 * GIB}, members, Rules()) == {"image": 0.833}


def test_who_is_on_two_gpus_gets_what_the_dearer_one_leaves() -> None:
    members = [
        Member(uid="both", demand=wanting(LLM, "Normal", 10, 4), gpus=("a", "b")),
        Member(uid="first", demand=wanting(IMAGE, "Background", 6, 1.8), gpus=("a",)),
        Member(uid="second", demand=wanting(IMAGE, "Normal", 8, 2), gpus=("b",)),
    ]
    solved = equilibrium({"a": 12 * GIB, "b": 12 * GIB}, members, Rules())
    assert solved == pytest.approx({"both": 0.6769, "first": 0.8718, "second": 0.6769}, abs=0.0011)


def test_gpus_that_are_as_dear_because_of_one_step_are_settled_together() -> None:
    stepped = replace(
        wanting(LLM, "Normal", 9, 4), minimum=0.445, levels=((0.445, 4 * GIB), (0.723, 6 * GIB), (1.0, 9 * GIB))
    )
    members = [
        Member(uid="both", demand=stepped, gpus=("a", "b")),
        Member(uid="held", demand=wanting(VIDEO, "Background", 4, 3), gpus=("b",), held=3 * GIB),
        Member(uid="beside it", demand=wanting(IMAGE, "Low", 7, 2), gpus=("b",)),
        Member(uid="large", demand=replace(wanting(LLM, "Low", 14, 10), minimum=0.714), gpus=("a",)),
        Member(uid="fixed", demand=replace(wanting(LLM, "Normal", 5, 5), minimum=1.0), gpus=("a",)),
        Member(uid="small", demand=replace(wanting(LLM, "Low", 5, 3), minimum=0.6), gpus=("a",)),
    ]
    solved = equilibrium({"a": 24 * GIB, "b": 12 * GIB}, members, Rules(mode="LlmFirst", threshold=0.85))
    assert solved == {"both": 0.445, "beside it": 0.52, "large": 0.714, "fixed": 1.0, "small": 0.7}
