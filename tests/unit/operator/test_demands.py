from dataclasses import replace

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
    smaller, metadata = demand(full=8 * GIB, floor=3 * GIB), of.metadata
    wanted = replace(CHAT.frozen, demand=smaller, allocation_uid=metadata.uid, generation=metadata.generation)
    return DemandChange(pod=CHAT, frozen=wanted)


SMALLER = {"full": "8Gi", "floor": "3Gi"}


def test_pods_of_this_generation_are_left_alone() -> None:
    assert changes(allocation()) == ()


def test_an_edit_that_does_not_touch_the_demand_is_none() -> None:
    assert changes(allocation(generation=2, timeout="10s")) == ()


def test_an_edit_whose_floor_fits_what_is_reserved_is_frozen_anew() -> None:
    edited = allocation(generation=2, vram=SMALLER)
    assert changes(edited) == (frozen(edited),)


def test_an_allocation_that_was_made_anew_counts_as_edited_though_it_is_no_second_younger_than_the_pod() -> None:
    edited = allocation(vram=SMALLER)
    metadata = edited.metadata.model_copy(update={"uid": "uid-anew"})
    again = edited.model_copy(update={"metadata": metadata})
    assert changes(again) == (frozen(again),)


def test_a_template_that_states_the_floor_goes_on_doing_so() -> None:
    three = gpu_pod(of=demand(floor=3 * GIB, minimum="0.4"), asked=3)
    edited = allocation(generation=2, vram={"full": "8Gi"}, quality={})
    wanted = replace(three.frozen, demand=demand(full=8 * GIB, floor=3 * GIB, minimum="0.4"), generation=2)
    assert changes(edited, three) == (DemandChange(pod=three, frozen=wanted),)


def test_an_edit_that_contradicts_the_pods_template_says_so() -> None:
    four = gpu_pod(asked=4)
    assert changes(allocation(generation=2, vram=SMALLER), four) == (
        DemandChange(
            pod=four,
            restart='would be refused: arbiter.infernum.io/vram "4" contradicts spec.vram.floor 3Gi, which is "3"; '
            "leave one of the two out",
        ),
    )


def test_a_floor_beyond_what_is_reserved_needs_a_restart() -> None:
    larger = allocation(generation=2, vram={"full": "10Gi", "floor": "5Gi"})
    assert changes(larger) == (DemandChange(pod=CHAT, restart="reserved 4Gi, floor 5Gi is asked for"),)


def test_another_number_of_gpus_needs_a_restart() -> None:
    assert changes(allocation(generation=2, gpuCount=2)) == (
        DemandChange(pod=CHAT, restart="has 1 GPU, gpuCount 2 is asked for"),
    )


def test_an_edit_that_contradicts_itself_changes_nothing() -> None:
    assert changes(allocation(generation=2, quality={"minimum": 0.1})) == ()
