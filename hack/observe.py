"""What a person at the local cluster could see: objects at the API server, files and logs in the containers.

The demo and the cluster tests read through it. Imports the local cluster and the journal.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from hack import journal
from hack.cluster.cluster import Cluster
from hack.cluster.errors import CommandError

T = TypeVar("T")

_POLL_SECONDS = 0.05
_PREFIX = "arbiter.infernum.io/"
_GROUP = "/apis/arbiter.infernum.io/v1alpha1"


class NotSeenError(Exception):
    """Something did not happen in time; the text names the component that tells why, `log` is what it printed."""

    def __init__(self, text: str, *, log: str) -> None:
        super().__init__(text)
        self.log = log


@dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """A pod as the API server shows it."""

    namespace: str
    name: str
    phase: str
    node: str | None
    version: str
    annotations: dict[str, str]

    @property
    def quality(self) -> float | None:
        """The target in its annotation."""
        text = self.annotations.get(_PREFIX + "quality-target")
        return None if text is None else float(text)

    @property
    def gpus(self) -> tuple[str, ...]:
        """The uuids of the GPUs that it was assigned."""
        return tuple(filter(None, self.annotations.get(_PREFIX + "gpus", "").split(",")))


@dataclass(frozen=True, slots=True, kw_only=True)
class FileView:
    """The container's quality.json: quality 0..1, bytes per GPU."""

    quality: float
    target: float
    vram: int
    revision: int
    gpus: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuView:
    """A GPU as its GpuNode shows it, with the bytes granted to each pod on it."""

    label: str
    uuid: str
    usable: int
    granted: dict[str, int]

    @property
    def free(self) -> int:
        """Bytes that nobody is granted."""
        return self.usable - sum(self.granted.values())


class Observer:
    """Reads one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._control_plane = cluster.control_plane

    def wait(self, what: str, read: Callable[[], T | None], *, component: str, seconds: float = 90.0) -> T:
        """What `read` answers once it answers something.

        Raises:
            NotSeenError: nothing came in time; `component` is where to look.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            answer = read()
            if answer is not None:
                return answer
            time.sleep(_POLL_SECONDS)
        raise NotSeenError(f"waited {seconds:g}s for {what}; look at the {component}", log=self._cluster.log(component))

    def pods(self, namespace: str) -> list[PodView]:
        """The pods of a namespace by name, those on their way out left aside."""
        items = (self._get(f"/api/v1/namespaces/{namespace}/pods") or {}).get("items", [])
        return sorted(
            (_pod(item) for item in items if "deletionTimestamp" not in item["metadata"]), key=lambda pod: pod.name
        )

    def pod(self, namespace: str, prefix: str) -> PodView | None:
        """The first pod whose name starts so."""
        return next((pod for pod in self.pods(namespace) if pod.name.startswith(prefix)), None)

    def allocation_quality(self, namespace: str, name: str) -> float | None:
        """The quality in a GpuAllocation's status."""
        found = self._get(f"{_GROUP}/namespaces/{namespace}/gpuallocations/{name}") or {}
        quality = found.get("status", {}).get("quality")
        return None if quality is None else float(quality)

    def gpus(self) -> list[GpuView]:
        """Every GPU, labelled as people call it: ``gpu-1/0``."""
        nodes = (self._get(f"{_GROUP}/gpunodes") or {}).get("items", [])
        return [_gpu(node, gpu) for node in nodes for gpu in node.get("status", {}).get("gpus", [])]

    def confirmed(self, pod: PodView) -> bool:
        """Whether the container has acknowledged the size that its node granted it."""
        nodes = (self._get(f"{_GROUP}/gpunodes") or {}).get("items", [])
        grants = [grant for node in nodes for grant in node.get("status", {}).get("grants", [])]
        mine = [grant for grant in grants if (grant["namespace"], grant["pod"]) == (pod.namespace, pod.name)]
        return any(grant.get("applied") == grant.get("granted") is not None for grant in mine)

    def event(self, namespace: str, pod: str, reason: str) -> str | None:
        """The message of the latest event about a pod."""
        listed = (self._get(f"/api/v1/namespaces/{namespace}/events") or {}).get("items", [])
        items = sorted(listed, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
        about = {"kind": "Pod", "name": pod}
        messages = [
            e["message"] for e in items if e["reason"] == reason and about.items() <= e["involvedObject"].items()
        ]
        return messages[-1] if messages else None

    def file(self, pod: PodView) -> FileView | None:
        """quality.json as the container itself reads it; None while there is none."""
        try:
            text = self._cluster.kubectl(
                "exec", "-n", pod.namespace, pod.name, "--", "cat", "/run/arbiter/quality.json"
            )
        except CommandError:
            return None
        document = json.loads(text)
        return FileView(
            quality=document["quality"],
            target=document["target"],
            vram=document["vramBytes"],
            revision=document["revision"],
            gpus=tuple(document["gpus"]),
        )

    def journal(self, pod: PodView) -> list[journal.Step]:
        """The container's journal so far."""
        try:
            return journal.parse(self._cluster.kubectl("logs", "-n", pod.namespace, pod.name))
        except CommandError:
            return []

    def _get(self, path: str) -> dict[str, Any] | None:
        answer = self._control_plane.get(path)
        return None if answer is None else json.loads(answer)


def _pod(item: dict[str, Any]) -> PodView:
    metadata = item["metadata"]
    return PodView(
        namespace=metadata["namespace"],
        name=metadata["name"],
        phase=item["status"]["phase"],
        node=item["spec"].get("nodeName"),
        version=metadata["resourceVersion"],
        annotations=metadata.get("annotations", {}),
    )


def _gpu(node: dict[str, Any], gpu: dict[str, Any]) -> GpuView:
    grants = node["status"].get("grants", [])
    return GpuView(
        label=f"{node['metadata']['name']}/{gpu['index']}",
        uuid=gpu["uuid"],
        usable=gpu["usable"],
        granted={
            grant["pod"]: grant["granted"] for grant in grants if gpu["uuid"] in grant["gpus"] and grant.get("granted")
        },
    )
