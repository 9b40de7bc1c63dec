"""A control plane with Arbiter's CRDs and manifests, and an operator whose webhook it calls."""

import base64
from collections.abc import AsyncIterator, Iterator

import pytest

from arbiter_kube.client import KubeClient
from hack.cluster.controlplane import ControlPlane
from hack.cluster.paths import REPOSITORY
from tests.component.operator.support import Operator, Site

_MANIFESTS = REPOSITORY / "hack" / "manifests"


@pytest.fixture(scope="package")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One of its own, since the webhook and the admission policies would be in every other test's way."""
    with ControlPlane(tmp_path_factory.mktemp("control-plane")) as running:
        running.kubectl("apply", "--server-side", f"--filename={REPOSITORY / 'crds'}")
        running.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=20s")
        yield running


@pytest.fixture(scope="package")
def running_operator(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    for name in ("00-namespace", "operator", "scheduler", "device-plugin", "policy", "priorityclasses"):
        control_plane.kubectl("apply", "--server-side", f"--filename={_MANIFESTS / f'{name}.yaml'}")
    serving = control_plane.authority.issue("webhook", common_name="webhook", hosts=("127.0.0.1",))
    operator = Operator(
        control_plane.service_account_kubeconfig("arbiter-system", "arbiter-operator"),
        certificate=serving.certificate,
        key=serving.key,
        log=tmp_path_factory.mktemp("operator") / "log",
    )
    operator.start()
    admission = (_MANIFESTS / "admission.yaml").read_text()
    bundle = base64.b64encode(control_plane.authority.certificate).decode()
    filled_in = admission.replace("${CA_BUNDLE}", bundle).replace("${WEBHOOK_URL}", f"https://{operator.webhook}/pods")
    control_plane.kubectl("apply", "--server-side", "--filename=-", stdin=filled_in)
    yield operator
    assert operator.stop() == 0


@pytest.fixture
async def operator(running_operator: Operator) -> Operator:
    await running_operator.ready()
    return running_operator


@pytest.fixture
async def site(control_plane: ControlPlane, running_operator: Operator) -> AsyncIterator[Site]:
    scheduler = control_plane.service_account_kubeconfig("arbiter-system", "arbiter-scheduler")
    async with (
        await KubeClient.connect(control_plane.admin_kubeconfig, component="test") as admin,
        await KubeClient.connect(scheduler, component="scheduler") as binder,
    ):
        yield Site(control_plane, admin, binder)
