"""What a container is told: the text of quality.json and of the one-number files beside it.

Pure. Imports the core's grants, the annotations' decisions and the API's names.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from arbiter.demand import Demand
from arbiter.ids import GpuUuid
from arbiter.transitions import Grant, GrantReason
from arbiter.workload import MemoryPressure, PolicyMode
from arbiter_kube.api import API_VERSION
from arbiter_kube.api.annotations import TargetGrant

TARGET_FILE = "quality.json"

_FRACTION_DIGITS = 10_000


@dataclass(frozen=True, slots=True)
class Told:
    """A grant as the container reads it: the JSON document and the plain files, by name."""

    revision: int
    document: bytes
    files: Mapping[str, bytes]


def told(
    grant: Grant,
    *,
    demand: Demand,
    decision: TargetGrant | None,
    mode: PolicyMode,
    totals: Mapping[GpuUuid, int],
) -> Told:
    """The grant for a container on the GPUs of `totals` (bytes of the whole device).

    `gpuFraction` is the share of a device's total memory, as engines take it, rounded down; where the devices differ
    it is that of the largest.
    """
    fraction = _fraction(grant.vram, max(totals.values(), default=0))
    document = {
        "apiVersion": API_VERSION,
        "kind": "QualityTarget",
        "quality": float(grant.quality),
        "target": float(grant.target),
        "minimum": float(demand.minimum),
        "vramBytes": grant.vram,
        "gpuFraction": fraction,
        "gpus": sorted(totals),
        "pressure": decision.pressure if decision else MemoryPressure.LOW,
        "mode": decision.mode if decision else mode,
        "revision": grant.revision,
        "reason": _reason(grant, decision),
    }
    text = json.dumps(document, indent=2).encode() + b"\n"
    numbers = {
        "quality": f"{float(grant.quality):.3f}",
        "vram-bytes": str(grant.vram),
        "gpu-fraction": f"{fraction:.4f}",
    }
    files = {name: f"{number}\n".encode() for name, number in numbers.items()}
    # The document comes last: whoever is woken by it finds the numbers beside it up to date.
    return Told(revision=grant.revision, document=text, files=files | {TARGET_FILE: text})


def _fraction(vram: int, total: int) -> float:
    return float(Fraction(vram * _FRACTION_DIGITS // total, _FRACTION_DIGITS)) if total else 0.0


def _reason(grant: Grant, decision: TargetGrant | None) -> str:
    if grant.reason is GrantReason.TARGET and decision and decision.reason:
        return decision.reason
    return grant.reason
