"""What a container is told."""

import json
from fractions import Fraction

from arbiter.ids import GpuUuid
from arbiter.transitions import Grant, GrantReason
from arbiter.units import GIB, MIB
from arbiter.workload import MemoryPressure, PolicyMode
from arbiter_deviceplugin.target import Told, told
from arbiter_kube.api.annotations import TargetGrant
from tests.unit.extender.builders import a_pod

DECISION = TargetGrant(
    quality="0.904",
    vram=9256 * MIB,
    revision=7,
    pressure=MemoryPressure.HIGH,
    mode="LlmFirst",
    reason="team-b/posters joined gpu-1/0",
)


def tell(*, reason: GrantReason = GrantReason.TARGET, decision: TargetGrant | None = DECISION, **totals: int) -> Told:
    grant = Grant(revision=3, quality=Fraction("0.904"), vram=9256 * MIB, target=Fraction("0.904"), reason=reason)
    devices = {GpuUuid(name): size for name, size in (totals or {"a": 12 * GIB}).items()}
    return told(grant, demand=a_pod("chat").pod.demand, decision=decision, mode=PolicyMode.FIXED, totals=devices)


def test_the_document_has_everything_that_an_engine_needs() -> None:
    assert json.loads(tell().document) == {
        "apiVersion": "arbiter.infernum.io/v1alpha1",
        "kind": "QualityTarget",
        "quality": 0.904,
        "target": 0.904,
        "minimum": 0.4,
        "vramBytes": 9256 * MIB,
        "gpuFraction": 0.7532,
        "gpus": ["a"],
        "pressure": "High",
        "mode": "LlmFirst",
        "revision": 3,
        "reason": "team-b/posters joined gpu-1/0",
    }


def test_the_plain_files_hold_one_number_each_and_the_document_comes_last() -> None:
    answer = tell()

    assert list(answer.files.items()) == [
        ("quality", b"0.904\n"),
        ("vram-bytes", b"9705619456\n"),
        ("gpu-fraction", b"0.7532\n"),
        ("quality.json", answer.document),
    ]


def test_the_fraction_is_that_of_the_largest_device() -> None:
    assert tell(a=12 * GIB, b=24 * GIB).files["gpu-fraction"] == b"0.3766\n"


def test_while_nobody_decided_the_mode_is_the_policys_and_the_pressure_low() -> None:
    document = json.loads(tell(decision=None, reason=GrantReason.NO_TARGET).document)

    assert (document["mode"], document["pressure"]) == ("Fixed", "Low")
    assert document["reason"] == "no target has been decided yet"


def test_why_it_is_not_where_it_is_going_comes_before_why_it_goes_there() -> None:
    assert json.loads(tell(reason=GrantReason.GROWS_LATER).document)["reason"] == "more follows when it is free"
