"""Every manifest under examples/ asks for what it says, by the same code that admission uses."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

from arbiter.demand import Demand, resolve
from arbiter.units import GIB, MIB
from arbiter.workload import Priority, WorkloadType
from arbiter_kube.api import API_VERSION, VRAM_RESOURCE
from arbiter_kube.api.annotations import ALLOCATION, PEOPLE_KEYS, inline_request
from arbiter_kube.api.gpuallocation import GpuAllocation

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.rglob("*.yaml"))


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def pods(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Metadata and spec of each pod or pod template."""
    for document in documents(path):
        if document["kind"] == "Pod":
            yield document["metadata"], document["spec"]
        elif "template" in document.get("spec", {}):
            yield document["spec"]["template"]["metadata"], document["spec"]["template"]["spec"]


def allocations(path: Path) -> dict[str, Demand]:
    """Demands by the name of their GpuAllocation."""
    found = [document for document in documents(path) if document["kind"] == "GpuAllocation"]
    assert all(document["apiVersion"] == API_VERSION for document in found)
    return {each.metadata.name: resolve(each.spec.request()) for each in map(GpuAllocation.model_validate, found)}


@pytest.mark.parametrize(
    ("file", "demand"),
    [
        (
            "chat.yaml",
            Demand(
                workload_type=WorkloadType.LLM_INFERENCE,
                priority=Priority.HIGH,
                full=10 * GIB,
                floor=4 * GIB,
                maximum=Fraction(1),
                minimum=Fraction("0.4"),
            ),
        ),
        (
            "posters.yaml",
            Demand(
                workload_type=WorkloadType.IMAGE_GENERATION,
                priority=Priority.BACKGROUND,
                full=6 * GIB,
                floor=1843 * MIB,
                maximum=Fraction(1),
                minimum=Fraction("0.3"),
            ),
        ),
    ],
)
def test_the_demo_asks_for_the_sizes_of_its_story(file: str, demand: Demand) -> None:
    assert list(allocations(EXAMPLES / file).values()) == [demand]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_pod_names_an_allocation_of_its_file_or_writes_its_demand_out(path: Path) -> None:
    named = allocations(path)
    asking = list(pods(path))
    assert asking
    for metadata, spec in asking:
        annotations = metadata.get("annotations", {})
        assert set(annotations) <= set(PEOPLE_KEYS)
        inline = inline_request(annotations)
        if inline is not None:
            resolve(inline)
        fixed = VRAM_RESOURCE in spec["containers"][0].get("resources", {}).get("limits", {})
        assert [annotations.get(ALLOCATION) in named, inline is not None, fixed].count(True) == 1


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_each_pod_of_the_demo_runs_without_rights_and_ends_quickly(path: Path) -> None:
    for _, spec in pods(path):
        assert spec["securityContext"] == {"runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532}
        assert spec["containers"][0]["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert spec["terminationGracePeriodSeconds"] == 5
