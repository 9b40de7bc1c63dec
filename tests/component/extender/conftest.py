"""A control plane with Arbiter's CRDs and the scheduler's rights, an extender, and a kube-scheduler that asks it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import yaml

from arbiter_kube.client import KubeClient
from hack.cluster import binaries
from hack.cluster.chart import rights, scheduler_config
from hack.cluster.controlplane import ControlPlane
from hack.cluster.paths import REPOSITORY
from hack.cluster.process import Processes
from tests.component.extender.support import Extender, LossyApi, Site


@pytest.fixture(scope="package")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One of its own: the ledger and the scheduler would see every node and pod that other tests leave behind."""
    binaries.ensure(["kube-scheduler", binaries.HELM])
    with ControlPlane(tmp_path_factory.mktemp("control-plane")) as running:
        running.kubectl("apply", "--server-side", f"--filename={REPOSITORY / 'crds'}")
        running.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=20s")
        running.kubectl("create", "--filename=-", stdin=yaml.safe_dump_all(rights("scheduler")))
        yield running


@pytest.fixture(scope="package")
def kubeconfig(control_plane: ControlPlane) -> Path:
    """That of the service account with the rights that the chart gives it."""
    return control_plane.service_account_kubeconfig("arbiter-system", "arbiter-scheduler")


@pytest.fixture(scope="package")
def running_extender(kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Extender]:
    extender = Extender(kubeconfig, log=tmp_path_factory.mktemp("extender") / "log")
    extender.start()
    yield extender
    assert extender.stop() == 0


@pytest.fixture
async def extender(running_extender: Extender) -> Extender:
    """The one that all tests share."""
    return await running_extender.ready()


@pytest.fixture(scope="package")
def scheduler(kubeconfig: Path, running_extender: Extender, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A kube-scheduler with the local cluster's configuration, asking this extender."""
    directory = tmp_path_factory.mktemp("scheduler")
    config = yaml.safe_load(scheduler_config(kubeconfig))
    config["extenders"][0]["urlPrefix"] = f"http://{running_extender.address}"
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    processes = Processes(directory, die_with_parent=True)
    program = str(binaries.directory() / "kube-scheduler")
    processes.start("kube-scheduler", (program, f"--config={directory / 'config.yaml'}", "--secure-port=0"))
    yield
    processes.stop("kube-scheduler")


@pytest.fixture
async def site(control_plane: ControlPlane) -> AsyncIterator[Site]:
    async with await KubeClient.connect(control_plane.admin_kubeconfig, component="test") as client:
        site = Site(client)
        await site.open()
        yield site
        await site.close()


@pytest.fixture
async def lossy(control_plane: ControlPlane, tmp_path: Path) -> AsyncIterator[LossyApi]:
    admin = control_plane.authority.issue("admin", common_name="admin", organizations=("system:masters",))
    api = LossyApi(control_plane.server, control_plane.authority.client_context(admin))
    async with api.serving(tmp_path / "kubeconfig"):
        yield api


@pytest.fixture
async def distant(lossy: LossyApi, tmp_path: Path) -> AsyncIterator[Extender]:
    """An extender that reaches the API server through `lossy`."""
    extender = Extender(tmp_path / "kubeconfig", log=tmp_path / "log")
    extender.start()
    yield await extender.ready()
    extender.kill()
