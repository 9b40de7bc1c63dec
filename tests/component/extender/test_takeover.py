"""Two replicas of kube-scheduler, each with an extender of its own: one leads, the other knows everything already.

Two that act at once for a moment may promise one slot twice. The ledgers then count both as they are (here); the node
lets the second start only when its floor is free (`tests/unit/transitions/test_starts.py`), and the operator evicts
where floors exceed a GPU (`tests/unit/operator/test_evictions.py`).
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import yaml

from hack.cluster import binaries
from hack.cluster.chart import scheduler_config
from hack.cluster.controlplane import ControlPlane
from hack.cluster.process import Processes
from tests.component.extender.support import Extender, LossyApi, Site, eventually, where
from tests.unit.extender.builders import a_pod

NAME = "replicated-scheduler"

ELECTION = {
    "leaderElect": True,
    "resourceName": NAME,
    "resourceNamespace": "arbiter-system",
    "leaseDuration": "3s",
    "renewDeadline": "2s",
    "retryPeriod": "500ms",
}


@dataclass
class Replica:
    """A kube-scheduler and the extender beside it."""

    extender: Extender
    processes: Processes

    def start(self, config: Path) -> None:
        program = str(binaries.directory() / "kube-scheduler")
        self.processes.start("kube-scheduler", (program, f"--config={config}", "--secure-port=0"))

    def kill(self) -> None:
        """Both at once, as a node that loses power."""
        self.processes.kill("kube-scheduler")
        self.extender.kill()


@pytest.fixture
async def replicas(control_plane: ControlPlane, tmp_path: Path) -> AsyncIterator[tuple[Replica, Replica]]:
    """The first leads."""
    made = []
    for name in ("first", "second"):
        extender = Extender(
            control_plane.admin_kubeconfig, log=tmp_path / f"{name}.log", flags=("--filter-answer", "best")
        )
        extender.start()
        await extender.ready()
        made.append(replica := Replica(extender, Processes(tmp_path / name, die_with_parent=True)))
        config = yaml.safe_load(scheduler_config(control_plane.admin_kubeconfig))
        config |= {"leaderElection": ELECTION, "profiles": [{"schedulerName": NAME}]}
        config["extenders"][0]["urlPrefix"] = f"http://{extender.address}"
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config))
        replica.start(path)
        if name == "first":
            await eventually(lambda: _somebody_leads(control_plane), "leader")
    first, second = made
    yield first, second
    for replica in made:
        replica.processes.stop("kube-scheduler")
        replica.extender.kill()


async def _somebody_leads(control_plane: ControlPlane) -> bool | None:
    lease = control_plane.get(f"/apis/coordination.k8s.io/v1/namespaces/arbiter-system/leases/{NAME}")
    return True if lease and json.loads(lease)["spec"].get("holderIdentity") else None


async def test_when_the_leader_is_killed_amid_a_burst_the_standby_loses_nothing(
    replicas: tuple[Replica, Replica], site: Site
) -> None:
    first, second = replicas
    node = await site.add_node("12Gi", "12Gi", "12Gi")
    await first.extender.knows(node)
    await second.extender.knows(node)
    await _add_images(site, range(6))
    await eventually(lambda: _all_bound(site), "bound pods")
    known = {(f"{site.namespace}/image-{number}", "Bound") for number in range(6)}

    async def standby_knows() -> bool | None:
        return True if {*await second.extender.claims(node)} == known else None

    await eventually(standby_knows, "warm standby")
    await _add_images(site, range(6, 18))
    first.kill()
    await eventually(lambda: _all_bound(site), "bound pods")
    places = await site.places()
    assert places == {(node, (f"{node}-{index}",)): 6 for index in range(3)}
    await _add_images(site, range(18, 19))
    message = await site.refusal("image-18")
    assert message.startswith("0/1 nodes are available: 1 ")


async def test_of_two_that_act_at_once_both_pods_are_counted_afterwards(
    extender: Extender, distant: Extender, lossy: LossyApi, site: Site
) -> None:
    node = await site.add_node("12Gi", "7Gi")
    left, right, late = [
        await site.add_pod(a_pod(name).sizes(full="10Gi", floor="8Gi")) for name in ("left", "right", "late")
    ]
    await extender.knows(node)
    await distant.knows(node)
    lossy.watching.clear()
    assert await extender.bind(left, node) == ""
    assert await distant.bind(right, node) == ""
    assert await site.places() == {(node, (f"{node}-0",)): 2}

    lossy.watching.set()
    for each in (extender, distant):
        await eventually(partial(_counts_both, each, site, node), "count of both")
        assert (await each.filter(late, node))["NodeNames"] == []


async def _counts_both(extender: Extender, site: Site, node: str) -> bool | None:
    both = {(f"{site.namespace}/{name}", "Bound") for name in ("left", "right")}
    return True if {*await extender.claims(node)} == both else None


async def _add_images(site: Site, numbers: range) -> None:
    for number in numbers:
        await site.add_pod(a_pod(f"image-{number}").sizes(full="6Gi", floor="1843Mi"), scheduler=NAME)


async def _all_bound(site: Site) -> bool | None:
    await site.wake()
    return True if not [pod for pod in await site.pods() if where(pod) is None] else None
