"""The account that the demo and the cluster's tests keep of what containers might use."""

import pytest

from hack.journal import Step, StepKind, parse, peak_use


def test_a_log_is_read_line_by_line_and_everything_else_is_passed_over() -> None:
    log = (
        "started honest, applies after 0.3s, runs until SIGTERM\n"
        "journal 12.000001 started\n"
        "journal 12.500000 told revision=2 quality=0.904 vramBytes=9705619456 gpus=GPU-0,GPU-1\n"
        "quality 0.904 9256Mi revision 2 acknowledged\n"
    )
    assert parse(log) == [
        Step(time=12.000001, kind=StepKind.STARTED),
        Step(time=12.5, kind=StepKind.TOLD, revision=2, quality=0.904, vram=9705619456, gpus=("GPU-0", "GPU-1")),
    ]


def told(time: float, vram: int) -> Step:
    return Step(time=time, kind=StepKind.TOLD, vram=vram)


def applied(time: float, vram: int) -> Step:
    return Step(time=time, kind=StepKind.APPLIED, vram=vram)


def started(time: float) -> Step:
    return Step(time=time, kind=StepKind.STARTED)


def released(time: float) -> Step:
    return Step(time=time, kind=StepKind.RELEASED)


@pytest.mark.parametrize(
    ("journals", "peak"),
    [
        pytest.param({}, 0, id="nobody uses nothing"),
        pytest.param({"a": [told(1, 10)]}, 10, id="a size counts from when it is read, not from when it is applied"),
        pytest.param(
            {"a": [told(1, 10), applied(2, 10), told(3, 6), applied(4, 6)], "b": [told(5, 6)]},
            12,
            id="a shrink counts once it is applied",
        ),
        pytest.param(
            {"a": [told(1, 10), applied(2, 10), told(3, 6), applied(5, 6)], "b": [told(4, 6)]},
            16,
            id="a shrink that was told but not applied frees nothing",
        ),
        pytest.param(
            {"a": [told(1, 10), released(2)], "b": [told(3, 10)]}, 10, id="a container that ended uses nothing"
        ),
        pytest.param(
            {"a": [told(1, 10), started(2), told(4, 4)], "b": [told(3, 6)]},
            10,
            id="a container that starts again uses nothing until it is told",
        ),
    ],
)
def test_what_may_be_used_at_one_instant(journals: dict[str, list[Step]], peak: int) -> None:
    assert peak_use(journals).vram == peak
