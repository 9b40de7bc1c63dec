from dataclasses import replace
from datetime import UTC, datetime

from arbiter.demand import NO_POLICY
from arbiter.units import GIB
from arbiter_kube.api.gpuallocation import GpuAllocation
from arbiter_kube.api.pods import GpuPod
from arbiter_operator.demands import DemandChange, edits
from tests.unit.operator.builders import allocation, demand, gpu_pod

CHAT = gpu_pod()


def changes(edited: GpuAllocation, pod: GpuPod = CHAT) -> tuple[DemandChange, ...]:
    return edits(edited, [pod], defaults=NO_POLICY, unit=GIB)


def frozen(of: GpuAllocation) -> DemandChange:
    generation = of.metadata.generation
    smaller = demand(full=8 * GIB, floor=3 * GIB)
    return DemandChange(pod=CHAT, frozen=replace(CHAT.frozen, demand=smaller, generation=generation))


SMALLER = {"full": "8Gi", "floor": "3Gi"}


def test_pods_of_this_generation_are_left_alone() -> None:
    assert changes(allocation()) == ()


def test_an_edit_that_does_not_touch_the_demand_is_none() -> None:
    assert changes(allocation(generation=2, timeout="10s")) == ()


def test_an_edit_whose_floor_fits_what_is_reserved_is_frozen_anew() -> None:
    edited = allocation(generation=2, vram=SMALLER)
    assert changes(edited) == (frozen(edited),)


def test_an_allocation_that_was_made_anew_counts_as_edited() -> None:
    edited = allocation(vram=SMALLER)
    metadata = edited.metadata.model_copy(update={"creation_timestamp": datetime(2026, 1, 1, tzinfo=UTC)})
    again = edited.model_copy(update={"metadata": metadata})
    assert changes(again) == (frozen(again),)


def test_a_floor_beyond_what_is_reserved_needs_a_restart() -> None:
    larger = allocation(generation=2, vram={"full": "10Gi", "floor": "5Gi"})
    assert changes(larger) == (DemandChange(pod=CHAT, restart="reserved 4Gi, floor 5Gi is asked for"),)


def test_another_number_of_gpus_needs_a_restart() -> None:
    assert changes(allocation(generation=2, gpuCount=2)) == (
        DemandChange(pod=CHAT, restart="has 1 GPU, gpuCount 2 is asked for"),
    )


def test_an_edit_that_contradicts_itself_changes_nothing() -> None:
    assert changes(allocation(generation=2, quality={"minimum": 0.1})) == ()
