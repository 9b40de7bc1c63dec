"""The agent's clock beside one that people set."""

import time

import pytest

from arbiter_deviceplugin.clock import Clock


@pytest.mark.parametrize(
    ("seconds", "latest"),
    [pytest.param(3600.0, 3600.0, id="forward"), pytest.param(-3600.0, 0.0, id="back")],
)
def test_a_time_of_ours_is_no_later_on_the_wall_than_it_was_put(
    monkeypatch: pytest.MonkeyPatch, seconds: float, latest: float
) -> None:
    clock, wall = Clock(), time.time
    at = clock.now()

    monkeypatch.setattr(time, "time", lambda: wall() + seconds)

    assert clock.wall(at) - at == pytest.approx(latest, abs=1.0)
