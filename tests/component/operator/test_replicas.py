"""Several replicas of the operator: who follows, what the others do meanwhile, and what two leaders at once may do."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from arbiter.ids import NodeName
from arbiter.units import GIB
from arbiter_kube.api import annotations as a
from arbiter_kube.api.gpuallocation import GpuAllocationStatus
from arbiter_kube.api.objects import ObjectKey, Pod
from arbiter_kube.api.pods import gpu_pod
from arbiter_kube.api.resources import GPU_ALLOCATIONS, GPU_NODES, PODS, QUALITY_POLICIES
from arbiter_kube.client import ApiError, Applied, Conflict, KubeClient, Reflector
from arbiter_operator.cluster import Cluster
from arbiter_operator.targets import plan
from arbiter_operator.writer import Writer
from hack.cluster.controlplane import ControlPlane
from tests.component.operator.conftest import call_webhook_of
from tests.component.operator.support import Operator, Site, eventually, pod_manifest

LLM = {"workload_type": "LlmInference", "vram_full": "10Gi", "vram_floor": "4Gi"}
NO_LONGER = "no longer leading lease=arbiter-system/arbiter-operator"
CHANGES = 24


@pytest.fixture
async def second(operator: Operator, tmp_path: Path) -> AsyncIterator[Operator]:
    """Another replica, which follows."""
    await operator.leads()
    replica = operator.replica(tmp_path / "log")
    replica.start()
    await replica.ready()
    yield replica
    assert replica.stop() == 0


class Told:
    """What a namespace's pods were ever told, by pod: the revision of each target that is another than that before."""

    def __init__(self) -> None:
        self.revisions: defaultdict[str, list[int]] = defaultdict(list)
        self._last: dict[str, tuple[str, int, int]] = {}

    def note(self, pod: Pod) -> None:
        seen = gpu_pod(pod, unit=GIB)
        if seen is not None and seen.grant is not None:
            target = (seen.grant.quality, seen.grant.vram, seen.grant.revision)
            if self._last.get(seen.name) != target:
                self._last[seen.name] = target
                self.revisions[seen.name].append(seen.grant.revision)


@asynccontextmanager
async def listening(site: Site, namespace: str) -> AsyncIterator[Told]:
    """What the pods are told from now on; in the end all has been heard."""
    told, reflector = Told(), Reflector(site.admin, PODS, namespace=namespace)

    async def follow() -> None:
        async for event in reflector:
            if isinstance(event, Applied):
                told.note(event.object)

    async def caught_up() -> bool | None:
        there = {pod.key: pod for pod in await site.admin.list(PODS, namespace=namespace)}
        return True if there == reflector.objects else None

    following = asyncio.create_task(follow())
    try:
        yield told
        await eventually(caught_up, "end of what was told")
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_a_second_replica_is_ready_and_follows_a_leader_that_was_killed(
    site: Site, operator: Operator, second: Operator
) -> None:
    site.add_namespace("replicas")
    pods = [await site.add_pod(ObjectKey("replicas", f"chat-{i}"), workload_type="LlmInference") for i in range(2)]
    async with site.node("replicas-1", usable=24576) as node:
        await site.bind(pods[0], node)
        await site.told(pods[0].key, "1.000")
        operator.kill()
        try:
            await site.bind(pods[1], node)
            await site.told(pods[1].key, "1.000")
        finally:
            operator.start()
            await operator.ready()
        for pod in pods:
            await site.end(pod)


async def test_a_replica_that_follows_serves_admission(
    site: Site, operator: Operator, second: Operator, control_plane: ControlPlane
) -> None:
    site.add_namespace("standby")
    nonsense = pod_manifest("chat", workload_type="LlmInference", vram_full="10Gi", vram_floor="12Gi")

    async def refused_by_the_second() -> bool | None:
        with pytest.raises(ApiError, match="floor 12Gi is larger than full 10Gi"):
            await site.admin.create(PODS, nonsense, namespace="standby")
        return True if "pod refused reason=pod standby/chat" in second.log.read_text() else None

    call_webhook_of(second, control_plane)
    try:
        await eventually(refused_by_the_second, "refusal by the second", log=second.log)
        pod = await site.add_pod(ObjectKey("standby", "chat"), **LLM)
        assert pod.spec.containers[0].resources.limits == {"arbiter.infernum.io/vram": "4"}
        assert "leading lease=" not in second.log.read_text()
    finally:
        call_webhook_of(operator, control_plane)


async def test_a_leader_that_stood_still_for_longer_than_its_lease_writes_nothing_when_it_goes_on(
    site: Site, operator: Operator, second: Operator
) -> None:
    site.add_namespace("paused")
    chat, *others = [await site.add_pod(ObjectKey("paused", name), **LLM) for name in ("chat", "one", "other", "last")]
    async with site.node("paused-1", usable=12288) as node, listening(site, "paused") as told:
        await site.bind(chat, node)
        await site.told(chat.key, "1.000", revision=1)
        await operator.logs("target written pod=paused/chat ")  # a moment later than the pod has it
        before = operator.log.read_text()
        operator.pause()
        try:
            # Each of these is told the paused one as well, and asks for targets that the next one makes wrong.
            await site.bind(others[0], node)
            await site.told(chat.key, "0.600", revision=2)
            await site.told(others[0].key, "0.600", revision=1)
            await site.end(others[0])
            await site.told(chat.key, "1.000", revision=3)
            await site.bind(others[1], node)
            await site.told(chat.key, "0.600", revision=4)
            await site.told(others[1].key, "0.600", revision=1)
        finally:
            operator.resume()
        await operator.logs(NO_LONGER, times=before.count(NO_LONGER) + 1)
        await site.end(others[1])
        await site.told(chat.key, "1.000", revision=5)
        await site.bind(others[2], node)
        await site.told(chat.key, "0.600", revision=6)
        await site.told(others[2].key, "0.600", revision=1)
        for pod in (chat, others[2]):
            await site.end(pod)
    assert told.revisions == {"chat": [1, 2, 3, 4, 5, 6], "one": [1], "other": [1], "last": [1]}
    assert operator.log.read_text().count("target written") == before.count("target written")


RIGHT_TO_LEAD = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: leases, namespace: rivals}
rules:
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, create, patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: leases, namespace: rivals}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: leases}
subjects: [{kind: ServiceAccount, name: arbiter-operator, namespace: arbiter-system}]
"""


@pytest.fixture
async def rival(site: Site, operator: Operator, tmp_path: Path) -> AsyncIterator[Operator]:
    """Another replica, which leads all the time beside the first: it has a lease of its own."""
    site.add_namespace("rivals")
    for manifest in yaml.safe_load_all(RIGHT_TO_LEAD):
        site.kubectl("apply", "--filename=-", manifest=manifest)
    replica = operator.replica(tmp_path / "log", namespace="rivals")
    replica.start()
    await replica.ready()
    await replica.logs("leading lease=rivals/arbiter-operator")
    yield replica
    assert replica.stop() == 0


async def test_two_that_lead_at_once_tell_everybody_what_one_would(
    site: Site, operator: Operator, rival: Operator
) -> None:
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    there: list[Pod] = []
    async with site.node("rivals-1", usable=24576) as node, listening(site, "rivals") as told:
        for number in range(CHANGES):
            if len(there) > 2 and chance.random() < 0.5:
                await site.end(there.pop(chance.randrange(len(there))))
            else:
                there.append(await site.add_pod(ObjectKey("rivals", f"chat-{number}"), **LLM))
                await site.bind(there[-1], node)
            await asyncio.sleep(chance.uniform(0.0, 0.1))
        await eventually(lambda: nothing_to_tell(site, node.name), "rest on the node", log=rival.log)
        for pod in there:
            await site.end(pod)
    falling = {name: seen for name, seen in told.revisions.items() if seen != sorted({*seen})}
    assert falling == {}, f"seed {seed}"
    for one in (operator, rival):
        assert "target written" in one.log.read_text(), "both write"


async def nothing_to_tell(site: Site, node: str) -> bool | None:
    """True once whoever begins anew would tell nobody on the node anything else."""
    cluster = Cluster(unit=GIB)
    for policy in await site.admin.list(QUALITY_POLICIES):
        cluster.policy_applied(policy)
    for report in await site.admin.list(GPU_NODES):
        cluster.report_applied(report)
    for pod in await site.admin.list(PODS):
        cluster.pod_applied(pod)
    state = cluster.node_state(NodeName(node))
    return True if state is not None and not plan(state).changes else None


async def test_a_target_of_an_older_revision_comes_too_late(
    site: Site, operator: Operator, control_plane: ControlPlane
) -> None:
    site.add_namespace("late")
    key = ObjectKey("late", "chat")
    pod = await site.add_pod(key, **LLM)
    as_operator = control_plane.service_account_kubeconfig("arbiter-system", "arbiter-operator")
    async with await KubeClient.connect(as_operator, component="arbiter-operator") as client:

        async def tell(revision: int, quality: str) -> None:
            annotations = {a.REVISION: str(revision), a.QUALITY_TARGET: quality}
            await client.patch(PODS, key.name, {"metadata": {"annotations": annotations}}, namespace=key.namespace)

        await tell(4, "0.600")
        for revision in (3, 4):
            with pytest.raises(
                ApiError, match=f"a target of revision {revision} comes too late: this pod has revision 4."
            ):
                await tell(revision, "0.700")
        await tell(4, "0.600")
        await tell(5, "0.700")
    await site.end(pod)


async def test_a_status_that_was_decided_from_an_older_version_comes_too_late(
    site: Site, operator: Operator, control_plane: ControlPlane
) -> None:
    site.add_namespace("stale")
    key = ObjectKey("stale", "chat")
    await site.add_allocation(key, workloadType="LlmInference")
    before = await site.allocation(key, phase="Pending")
    await site.admin.patch(GPU_ALLOCATIONS, key.name, {"spec": {"priority": "Low"}}, namespace=key.namespace)
    as_operator = control_plane.service_account_kubeconfig("arbiter-system", "arbiter-operator")
    async with await KubeClient.connect(as_operator, component="arbiter-operator") as client:
        writer = Writer(client, may_write=lambda: True)
        with pytest.raises(Conflict):
            await writer.status(GPU_ALLOCATIONS, before.metadata, GpuAllocationStatus(phase="Running"))
    assert (await site.allocation(key, observed_generation=2)).status.phase == "Pending"
