import pytest

from arbiter_kube.api.annotations import TargetGrant
from arbiter_kube.api.objects import ObjectReference
from arbiter_kube.client.events import EventType, Notice
from arbiter_operator.notices import found_notices, target_notices
from tests.unit.operator.builders import allocation, gpu_pod, target

POD = ObjectReference(api_version="v1", kind="Pod", namespace="team-a", name="chat-0", uid="uid-chat-0")
ALLOCATION = ObjectReference(
    api_version="arbiter.infernum.io/v1alpha1",
    kind="GpuAllocation",
    namespace="team-a",
    name="chat",
    uid="uid-chat",
)


def test_a_change_of_quality_is_told_on_the_pod_and_on_its_allocation() -> None:
    sentence = "1.000 -> 0.904 (9256Mi): before"
    told = target_notices(gpu_pod(), target("1.000", 10240), target("0.904", 9256), allocation=allocation())
    assert told == [
        Notice(about=POD, type=EventType.NORMAL, reason="QualityReduced", message=sentence),
        Notice(about=ALLOCATION, type=EventType.NORMAL, reason="QualityReduced", message=f"chat-0 {sentence}"),
    ]


def test_without_an_allocation_the_pod_alone_is_told_of() -> None:
    told = found_notices(gpu_pod(), "gpu-1/0", allocation=None)
    assert told == [Notice(about=POD, type=EventType.NORMAL, reason="VramFound", message="4Gi free on gpu-1/0")]


SILENT_OR_NOT = {
    "a first target": (None, target("0.904", 9256), ()),
    "a fall": (target("0.904", 9256), target("0.894", 9100), ("QualityReduced",)),
    "a rise": (target("0.894", 9100), target("0.904", 9256), ("QualityRestored",)),
    "a thousandth": (target("0.904", 9256), target("0.905", 9266), ()),
    "the last thousandth": (target("0.999", 10230), target("1.000", 10240), ("QualityRestored",)),
    "other bytes at one quality": (target("1.000", 10240), target("1.000", 8192), ()),
}


@pytest.mark.parametrize(("before", "after", "expected"), SILENT_OR_NOT.values(), ids=SILENT_OR_NOT)
def test_what_is_worth_an_event(before: TargetGrant | None, after: TargetGrant, expected: tuple[str, ...]) -> None:
    assert tuple(notice.reason for notice in target_notices(gpu_pod(), before, after, allocation=None)) == expected
