"""A node of the real API server with a fake kubelet, and an agent on it with the rights that the chart gives it."""

import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import yaml

from arbiter_kube.api.resources import NODES
from arbiter_kube.client import KubeClient
from hack.cluster import binaries
from hack.cluster.chart import rights
from hack.cluster.controlplane import ControlPlane
from hack.cluster.paths import REPOSITORY
from tests.component.deviceplugin.fake_kubelet import FakeKubelet, fake_kubelet
from tests.component.deviceplugin.support import AgentProcess, Place, Site, eventually, gpu, make_node
from tests.component.kube.support import Cable


@pytest.fixture(scope="package")
def api(control_plane: ControlPlane) -> ControlPlane:
    """A control plane that knows Arbiter's resources and the agent's service account."""
    binaries.ensure([binaries.HELM])
    control_plane.kubectl("apply", "--server-side", f"--filename={REPOSITORY / 'crds'}")
    control_plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=20s")
    control_plane.kubectl("apply", "--server-side", "--filename=-", stdin=yaml.safe_dump_all(rights("device-plugin")))
    return control_plane


@pytest.fixture
def place() -> Iterator[Place]:
    root = Path(tempfile.mkdtemp(prefix="arb-"))
    place = Place(root)
    place.write_gpus(gpu(0), gpu(1))
    yield place
    shutil.rmtree(root)


@pytest.fixture
async def kubelet(place: Place) -> AsyncIterator[FakeKubelet]:
    async with fake_kubelet(place.kubelet) as kubelet:
        yield kubelet


@pytest.fixture
async def cable(api: ControlPlane) -> AsyncIterator[Cable]:
    """What connects the agent to the API server."""
    cable = Cable(api.place.ports.apiserver)
    await cable.open()
    yield cable
    await cable.cut()


@pytest.fixture
def flags() -> tuple[str, ...]:
    """What the agent is started with beside what every agent is."""
    return ()


@pytest.fixture
async def site(
    api: ControlPlane, place: Place, kubelet: FakeKubelet, cable: Cable, flags: tuple[str, ...]
) -> AsyncIterator[Site]:
    """Two GPUs of 12 GiB; the agent is running and registered."""
    node = f"node-{secrets.token_hex(4)}"
    async with await KubeClient.connect(api.admin_kubeconfig, component="test") as client:
        await make_node(client, node)
        direct = api.service_account_kubeconfig("arbiter-system", "arbiter-device-plugin", node=node)
        kubeconfig = place.root / "kubeconfig"
        kubeconfig.write_text(direct.read_text().replace(api.server, f"https://127.0.0.1:{cable.port}"))
        agent = AgentProcess(kubeconfig, node=node, place=place)
        site = Site(client=client, node=node, place=place, kubelet=kubelet, agent=agent)
        await site.open()
        agent.start(*flags)
        await agent.ready()
        await eventually(lambda: kubelet.healthy, "offered slices")
        yield site
        await site.close()
        await client.delete(NODES, node)
        if agent.is_running:
            assert agent.stop() == 0, agent.log
