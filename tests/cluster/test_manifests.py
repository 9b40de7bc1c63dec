"""Other sizes, types, priorities, modes, levels, GPUs and nodes: containers read what `arbiter plan` says."""

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from hack.cluster.cluster import Cluster
from hack.observe import Observer
from tests.cluster.conftest import wait_until_free
from tests.cluster.workloads import Workload

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NODES, GPUS = 1, "12Gi,24Gi"

LLM = Workload(name="llm")
IMAGE = Workload(name="image", workload_type="ImageGeneration")
VIDEO = Workload(name="video", workload_type="VideoGeneration")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Workloads that arrive one after another on one node with GPUs of 12 and 24 GiB, under a mode."""

    workloads: tuple[Workload, ...]
    mode: str = "Adaptive"


def of(*workloads: Workload, mode: str = "Adaptive") -> Scene:
    """A scene whose workloads are called by their type and place in it."""
    named = (workload.asking(name=f"{workload.name}-{index}") for index, workload in enumerate(workloads))
    return Scene(workloads=tuple(named), mode=mode)


FULL = LLM.asking(full="10Gi", floor="4Gi")
PICTURES = IMAGE.asking(full="6Gi", floor="1843Mi")

SCENES = {
    "three on two GPUs, everybody at full size": of(FULL, PICTURES, FULL),
    "three of one size crowd the larger GPU": of(
        LLM.asking(full="20Gi", floor="8Gi"), LLM.asking(full="20Gi", floor="8Gi"), LLM.asking(full="11Gi", floor="5Gi")
    ),
    "priorities give way in their order": of(
        FULL.asking(priority="Critical"),
        FULL.asking(priority="Low"),
        PICTURES.asking(priority="Background"),
        VIDEO.asking(full="18Gi", floor="6Gi"),
        PICTURES.asking(priority="High"),
    ),
    "LLM first": of(
        FULL, PICTURES.asking(priority="Background"), LLM.asking(full="22Gi", floor="9Gi"), PICTURES, mode="LlmFirst"
    ),
    "diffusion first": of(
        FULL,
        PICTURES,
        LLM.asking(full="22Gi", floor="9Gi"),
        VIDEO.asking(full="10Gi", floor="3Gi"),
        mode="DiffusionFirst",
    ),
    "balanced": of(
        FULL, PICTURES, LLM.asking(full="22Gi", floor="9Gi"), VIDEO.asking(full="10Gi", floor="3Gi"), mode="Balanced"
    ),
    "levels drop one after another": of(
        *[LLM.asking(full="10Gi", floor="4Gi", levels=((0.4, "4Gi"), (0.7, "7Gi"), (1.0, "10Gi")))] * 4
    ),
    "a maximum below one, and a minimum above the type's": of(
        LLM.asking(full="11Gi", floor="4Gi", maximum=0.8),
        LLM.asking(full="20Gi", floor="14Gi", minimum=0.7),
        FULL,
        FULL,
    ),
    "one engine on two GPUs beside engines on each": of(
        LLM.asking(full="10Gi", floor="4Gi", gpu_count=2), PICTURES, PICTURES.asking(full="16Gi", floor="6Gi")
    ),
    "a size that never moves": of(LLM.asking(full="7Gi", floor="7Gi"), FULL, FULL, LLM.asking(full="9Gi", floor="4Gi")),
    "eight": of(*[FULL.asking(floor="3Gi", full="7Gi", minimum=0.45)] * 4, *[PICTURES.asking(priority="Low")] * 4),
    "odd sizes": of(
        LLM.asking(full="9999Mi", floor="4321Mi"),
        IMAGE.asking(full="7777777777", floor="3Gi"),
        VIDEO.asking(full="13Gi", floor="3500Mi"),
        LLM.asking(),
        IMAGE.asking(),
    ),
}


@pytest.fixture
def empty(cluster: Cluster) -> Iterator[Cluster]:
    """One node with GPUs of 12 and 24 GiB, and nothing on it."""
    yield cluster
    cluster.kubectl("delete", "gpuallocations,pods", "--all", "--timeout=90s")
    # Placement counts what may still be held, rightly; the plan starts from empty GPUs.
    wait_until_free(cluster)
    set_mode(cluster, "Adaptive")


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())
def test_containers_read_what_plan_says(empty: Cluster, scene: Scene, tmp_path: Path) -> None:
    observer = Observer(empty)
    set_mode(empty, scene.mode)
    for workload in scene.workloads:
        empty.kubectl("apply", "-f", "-", stdin=workload.manifest)
        # Until it can move, a container counts with all that it was granted, and the next is placed accordingly.
        observer.wait(f"{workload.key} to move", partial(moves, observer, workload), component="device-plugin/gpu-1")

    planned = plan(scene, neighbours(observer, scene), tmp_path)

    assert set(planned) == {workload.name for workload in scene.workloads}
    for name, quality in planned.items():
        observer.wait(
            f"file, annotation and status of {name} to say {quality}",
            partial(all_say, observer, name, quality),
            component="device-plugin/gpu-1",
        )


def set_mode(cluster: Cluster, mode: str) -> None:
    """Changes the default policy."""
    patch = json.dumps({"spec": {"mode": mode}})
    cluster.kubectl("patch", "qualitypolicy", "default", "--type=merge", f"--patch={patch}")


def moves(observer: Observer, workload: Workload) -> bool | None:
    """True once the pod's container has acknowledged what it was granted."""
    pod = observer.pod(workload.namespace, workload.name)
    return True if pod is not None and observer.confirmed(pod) else None


def all_say(observer: Observer, name: str, quality: float) -> bool | None:
    """True once the container's file, the pod's annotation and the allocation's status say this quality."""
    pod = observer.pod("default", name)
    if pod is None or pod.phase != "Running":
        return None
    file = observer.file(pod)
    told = (file.quality if file else None, pod.quality, observer.allocation_quality("default", name))
    return True if all(figure is not None and abs(figure - quality) <= 0.001 for figure in told) else None


def neighbours(observer: Observer, scene: Scene) -> dict[str, list[Workload]]:
    """The workloads that share GPUs, by the sizes of those: a node's GPUs are one where a workload is on several."""
    sizes = {gpu.uuid: f"{gpu.usable >> 20}Mi" for gpu in observer.gpus()}
    pods = {pod.name: pod for pod in observer.pods("default")}
    gpus = {workload.name: pods[workload.name].gpus for workload in scene.workloads}
    coupled = any(len(uuids) > 1 for uuids in gpus.values())
    groups: dict[str, list[Workload]] = defaultdict(list)
    for workload in scene.workloads:
        together = sizes if coupled else gpus[workload.name]
        groups[",".join(sizes[uuid] for uuid in together)].append(workload)
    return groups


def plan(scene: Scene, groups: dict[str, list[Workload]], directory: Path) -> dict[str, float]:
    """Qualities by name, as the command prints them for each group on its GPUs."""
    qualities = {}
    for gpus, workloads in groups.items():
        path = directory / "scene.yaml"
        path.write_text("---\n".join(workload.manifest for workload in workloads))
        command = [str(Path(sys.executable).with_name("arbiter")), "plan", "-f", str(path), "--gpu", gpus]
        options = ["--mode", scene.mode, "-o", "json"]
        answer = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
        members = (member for gpu in json.loads(answer.stdout)["gpus"] for member in gpu["members"])
        qualities.update({member["name"]: member["quality"] for member in members})
    return qualities
