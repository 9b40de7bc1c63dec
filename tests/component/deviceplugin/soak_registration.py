"""A thousand kubelets, one after another (`make soak`): each knows the plugin soon, and none leaves anything behind."""

import time

import pytest

from tests.component.deviceplugin.support import Footprint, Site, eventually

KUBELETS, FIRST = 1000, 100
SLICES = 24


@pytest.mark.timeout(1800)
async def test_a_thousand_kubelets_are_registered_with_and_cost_nothing(site: Site) -> None:
    seconds: list[float] = []
    footprints: list[Footprint] = []
    for number in range(KUBELETS):
        await site.kubelet.restart()
        began = time.monotonic()
        await eventually(lambda: len(site.kubelet.healthy) == SLICES, "registration with the new kubelet")
        seconds.append(time.monotonic() - began)
        if number + 1 in (FIRST, KUBELETS):
            footprints.append(site.agent.footprint())

    early, late = footprints
    p99 = sorted(seconds)[KUBELETS * 99 // 100]
    print(f"re-registration p99 {p99:.3f} s, longest {max(seconds):.3f} s; {early} -> {late}")
    assert p99 < 2
    assert late.descriptors <= early.descriptors + 2
    assert late.threads <= early.threads + 1
    assert late.resident <= early.resident * 1.05
