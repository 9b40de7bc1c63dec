"""The agent's clock beside one that people set."""

import pytest

from arbiter_deviceplugin import clock as clocks
from arbiter_deviceplugin.clock import Clock


class Machine:
    """Its two clocks, which stand still unless somebody sets the first."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return 100.0


@pytest.mark.parametrize(
    ("seconds", "shown_later"),
    [pytest.param(3600.0, 3600.0, id="forward"), pytest.param(-3600.0, 0.0, id="back")],
)
def test_setting_the_wall_clock_moves_our_time_never_and_what_the_wall_may_have_shown_only_forward(
    monkeypatch: pytest.MonkeyPatch, seconds: float, shown_later: float
) -> None:
    machine = Machine()
    monkeypatch.setattr(clocks, "time", machine)
    clock = Clock()
    at = clock.now()

    machine.wall += seconds

    assert (clock.now(), clock.wall(at)) == (at, at + shown_later)
