"""What somebody with edit rights in one namespace can do to everybody else: nothing but by the policy's own rules."""

import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from arbiter.demand import resolve
from arbiter.equilibrium import Member, solve
from arbiter.ids import GpuUuid, NodeName
from arbiter.policy import Policy
from arbiter.units import GIB, MIB
from arbiter_kube.api import annotations as a
from arbiter_kube.api.objects import ObjectKey, Pod
from arbiter_kube.api.pods import gpu_pod
from arbiter_kube.api.resources import GPU_ALLOCATIONS, GPU_NODES, NODES, PODS, QUALITY_POLICIES
from arbiter_kube.client import ApiError, Forbidden, KubeClient
from hack.cluster.controlplane import ControlPlane
from tests.component.operator.support import Node, Operator, Site, eventually, pod_manifest

EDITS = 120
USABLE = 20 * 1024
MINE, OTHERS = "stranger", "neighbour"

RIGHTS = ("system:aggregate-to-edit", "system:aggregate-to-view", "arbiter-edit", "arbiter-view")
"""What the controller manager, which does not run here, would gather in the role `edit`."""

TARGETS = (a.QUALITY_TARGET, a.VRAM_TARGET, a.PRESSURE, a.REVISION, a.GRANT)
"""What the policy's own rules may change for others."""


@pytest.fixture
async def stranger(control_plane: ControlPlane, operator: Operator, site: Site) -> AsyncIterator[KubeClient]:
    """Edits what it likes in its own namespace."""
    for namespace in (MINE, OTHERS):
        site.add_namespace(namespace)
    for role in RIGHTS:
        name = role.replace(":", "-")
        site.kubectl("create", "rolebinding", name, f"--clusterrole={role}", "--user=stranger", f"--namespace={MINE}")
    kubeconfig: Path = control_plane.kubeconfig("stranger", ["strangers"])
    async with await KubeClient.connect(kubeconfig, component="stranger") as client:
        yield client


class Malice:
    """One random attempt after another; most are refused."""

    def __init__(self, client: KubeClient, chance: random.Random) -> None:
        self._client, self._chance = client, chance
        self._attempts: list[Callable[[], Any]] = [
            self._make_pod,
            self._forge_pod,
            self._make_allocation,
            self._edit_allocation,
            self._forge_status,
            self._forge_gpu_node,
            self._edit_policy,
            self._bind,
            self._delete,
        ]

    async def attempt(self) -> None:
        """One; raises ApiError where it is refused."""
        await self._chance.choice(self._attempts)()

    @property
    def _where(self) -> str:
        return self._chance.choice((MINE, MINE, OTHERS))

    @property
    def _who(self) -> str:
        return self._chance.choice(("chat", "posters", "extra", "other"))

    @property
    def _annotations(self) -> dict[str, str | None]:
        """Some of Arbiter's own, forged, among what people may write."""
        forged: dict[str, str | None] = {
            a.QUALITY_TARGET: "1.000",
            a.VRAM_TARGET: "20480Mi",
            a.DEMAND: None,
            a.GPUS: f"{OTHERS}-gpu",
            a.GRANT: '{"version": 1, "quality": "1.000", "vram": 21474836480, "revision": 99}',
            a.NOMINATED: "{}",
            a.REVISION: "1000000",
            a.PRIORITY: "Critical",
        }
        return dict(self._chance.sample(sorted(forged.items()), 3))

    async def _make_pod(self) -> None:
        manifest = pod_manifest(self._who, workload_type="LlmInference", priority="Critical")
        manifest["metadata"]["annotations"] |= {k: v for k, v in self._annotations.items() if v is not None}
        await self._client.create(PODS, manifest, namespace=self._where)

    async def _forge_pod(self) -> None:
        body = {"metadata": {"annotations": self._annotations, "labels": {"edited": "yes"}}}
        part = self._chance.choice((None, "status"))
        await self._client.patch(PODS, self._who, body, namespace=self._where, subresource=part)

    async def _make_allocation(self) -> None:
        spec = {"workloadType": "LlmInference", "priority": "Critical", "vram": {"full": "20Gi", "floor": "10Gi"}}
        body = {"metadata": {"name": self._who}, "spec": spec}
        await self._client.create(GPU_ALLOCATIONS, body, namespace=self._where)

    async def _edit_allocation(self) -> None:
        spec = {
            "priority": self._chance.choice(("Background", "Normal", "Critical")),
            "vram": {"full": f"{self._chance.randrange(4, 20)}Gi"},
        }
        await self._client.patch(GPU_ALLOCATIONS, self._who, {"spec": spec}, namespace=self._where)

    async def _forge_status(self) -> None:
        status = {"status": {"quality": 0.1, "phase": "Preempted"}}
        await self._client.patch(GPU_ALLOCATIONS, self._who, status, namespace=self._where, subresource="status")

    async def _forge_gpu_node(self) -> None:
        await self._client.patch(GPU_NODES, "strangers-1", {"status": {"grants": []}}, subresource="status")

    async def _edit_policy(self) -> None:
        name = self._chance.choice(("default", "mine"))
        await self._client.patch(QUALITY_POLICIES, name, {"spec": {"mode": "LlmFirst"}})

    async def _bind(self) -> None:
        pod = await self._client.get(PODS, self._who, namespace=self._where)
        await self._client.bind(
            pod.key, uid=pod.uid, node=NodeName("strangers-1"), annotations={a.GPUS: "strangers-1-gpu"}
        )

    async def _delete(self) -> None:
        """Never its own two, whose neighbours the others are."""
        await self._client.delete(PODS, self._chance.choice(("extra", "other")), namespace=self._where)


LLM = {"workloadType": "LlmInference", "vram": {"full": "10Gi", "floor": "4Gi"}}
IMAGE = {"workloadType": "ImageGeneration", "vram": {"full": "6Gi", "floor": "2Gi"}}
PEOPLE = {
    ObjectKey(where, name): spec for where in (MINE, OTHERS) for name, spec in (("chat", LLM), ("posters", IMAGE))
}


async def test_edits_in_one_namespace_change_others_by_the_policys_rules_alone(
    site: Site, stranger: KubeClient
) -> None:
    seed = random.randrange(10**6)
    malice = Malice(stranger, random.Random(seed))
    async with site.node("strangers-1", usable=USABLE) as node:
        pods = [await _start(site, key, spec, node) for key, spec in PEOPLE.items()]
        await _expect_the_equilibrium(site)
        before, done = _everything_else(site), 0
        for _ in range(EDITS):
            with suppress(ApiError):
                await malice.attempt()
                done += 1

        await _expect_the_equilibrium(site)
        assert _everything_else(site) == before, f"seed {seed}"
        assert done > EDITS // 30, "nearly all was refused, but what is one's own may be edited"
        for pod in pods:
            await site.end(pod)


async def _start(site: Site, key: ObjectKey, spec: dict[str, Any], node: Node) -> Pod:
    """A pod that runs on the node, and moves."""
    await site.add_allocation(key, **spec)
    pod = await site.add_pod(key, allocation=key.name)
    await site.bind(pod, node)
    await site.annotated(key, a.QUALITY_TARGET)
    await node.grant(pod, 4096, quality=0.4)
    return pod


async def _expect_the_equilibrium(site: Site) -> None:
    """Returns once the four have what follows from what is asked for now."""

    async def look() -> bool | None:
        pods = [gpu_pod(await site.pod(key), unit=GIB) for key in PEOPLE]
        asked = {key: (await site.admin.get(GPU_ALLOCATIONS, key.name, namespace=key.namespace)).spec for key in PEOPLE}
        members = [
            Member(uid=pod.uid, demand=resolve(spec.request()), gpus=pod.gpus)
            for pod, spec in zip(pods, asked.values(), strict=True)
            if pod is not None
        ]
        targets = solve({GpuUuid("strangers-1-gpu"): USABLE * MIB}, members, Policy()).targets
        told = {pod.uid: pod.grant.vram for pod in pods if pod is not None and pod.grant is not None}
        return True if told == {uid: target.vram for uid, target in targets.items()} else None

    await eventually(look, "equilibrium of what is asked for")


def _everything_else(site: Site) -> dict[str, Any]:
    """What belongs to others, without what the policy's rules may change."""
    of_others = json.loads(site.kubectl("get", "pods,gpuallocations", f"--namespace={OTHERS}", "--output=json"))
    of_all = json.loads(site.kubectl("get", "gpunodes,qualitypolicies,nodes", "--output=json"))
    return {f"{item['kind']}/{item['metadata']['name']}": _kept(item) for item in of_others["items"] + of_all["items"]}


def _kept(item: dict[str, Any]) -> tuple[Any, ...]:
    annotations = item["metadata"].get("annotations", {})
    kept = {key: value for key, value in annotations.items() if key not in TARGETS}
    report = item["status"] if item["kind"] == "GpuNode" else None
    return kept, item["metadata"].get("labels"), item.get("spec"), report


async def test_the_token_of_an_agent_opens_nothing_but_its_own_nodes_report(site: Site, operator: Operator) -> None:
    site.add_namespace("burgled")
    chat = ObjectKey("burgled", "chat")
    await site.add_allocation(chat, **LLM)
    pod = await site.add_pod(chat, allocation="chat")
    async with site.node("burgled-1", usable=12288), site.agent("burgled-1") as thief:
        for theft in (
            thief.patch(PODS, "chat", {"metadata": {"annotations": {a.WAKE: "x"}}}, namespace="burgled"),
            thief.patch(PODS, "chat", {"status": {"phase": "Failed"}}, namespace="burgled", subresource="status"),
            thief.create(PODS, pod_manifest("mine"), namespace="burgled"),
            thief.delete(PODS, "chat", namespace="burgled"),
            thief.evict(chat, uid=pod.uid, dry_run=False),
            thief.bind(chat, uid=pod.uid, node=NodeName("burgled-1"), annotations={}),
            thief.patch(GPU_ALLOCATIONS, "chat", {"spec": {"priority": "Critical"}}, namespace="burgled"),
            thief.patch(QUALITY_POLICIES, "default", {"spec": {"mode": "Fixed"}}),
            thief.patch(NODES, "burgled-1", {"metadata": {"labels": {"mine": "yes"}}}),
            thief.delete(GPU_NODES, "burgled-1"),
        ):
            with pytest.raises(Forbidden):
                await theft
    assert (await site.pod(chat)).metadata.resource_version == pod.metadata.resource_version
    await site.end(pod)
