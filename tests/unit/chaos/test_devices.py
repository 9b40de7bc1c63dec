"""What the chaos tests excuse: pods that a kubelet decided on while it lacked devices, and none a moment later."""

from datetime import UTC, datetime

import pytest

from tests.cluster.chaos.devices import Devices


def line(at: float, *, healthy: int) -> str:
    time = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"time={time} level=INFO logger=arbiter_deviceplugin.plugin slices told count=36 healthy={healthy}\n"


LOG = "time=1970-01-01T00:00:09.900Z level=INFO logger=x registered socket=a.sock\n" + "".join(
    line(at, healthy=healthy) for at, healthy in ((10.0, 36), (100.0, 24), (107.25, 36))
)

MOMENTS = {
    "before anybody registered": (9.0, True),
    "in quiet times": (50.0, False),
    "while a GPU was not healthy": (103.0, True),
    "when it had just become healthy": (108.0, True),
    "when that must have been read": (110.0, False),
    "when the plugin had just been killed": (200.5, True),
    "before it registered again": (203.0, True),
    "after that": (206.5, False),
    "when the kubelet had been killed, which nobody has told anything since": (310.0, True),
}


@pytest.mark.parametrize(("moment", "lacking"), MOMENTS.values(), ids=MOMENTS)
def test_what_a_kubelet_lacks_follows_from_what_it_was_told(moment: float, lacking: bool) -> None:
    devices = Devices()
    devices.told("gpu-1", LOG)
    devices.killed("device-plugin/gpu-1", at=200.0)
    devices.killed("operator/gpu-1", at=250.0)
    devices.killed("kubelet/gpu-2", at=50.0)
    devices.killed("kubelet/gpu-1", at=300.0)
    # The container that was killed has taken its log with it.
    devices.told("gpu-1", line(204.25, healthy=36))
    assert devices.lacking("gpu-1", since=moment, until=moment) == lacking


def test_a_span_of_time_counts_as_a_whole() -> None:
    devices = Devices()
    devices.told("gpu-1", LOG)
    assert devices.lacking("gpu-1", since=99.0, until=100.0)
    assert not devices.lacking("gpu-1", since=98.0, until=99.5)
    assert devices.lacking("gpu-1", since=109.0, until=110.0)


@pytest.mark.parametrize(("component", "lacking"), [("kubelet/gpu-1", True), ("device-plugin/gpu-1", False)])
def test_a_kubelet_that_stood_still_reads_later_what_it_was_told_meanwhile(component: str, lacking: bool) -> None:
    devices = Devices()
    devices.told("gpu-1", LOG)
    devices.paused(component, since=106.0, until=114.0)
    assert devices.lacking("gpu-1", since=114.5, until=115.5) == lacking
    assert not devices.lacking("gpu-1", since=116.5, until=117.5)
