"""A control plane with Arbiter's CRDs and what else its chart makes, and an operator whose webhook it calls."""

from collections.abc import AsyncIterator, Iterator

import pytest
import yaml

from arbiter_kube.client import KubeClient
from hack.cluster import binaries
from hack.cluster.chart import Object, outside_pods, with_webhook_at
from hack.cluster.controlplane import ControlPlane
from hack.cluster.paths import REPOSITORY
from tests.component.operator.support import Operator, Site

_WEBHOOK = "MutatingWebhookConfiguration"


@pytest.fixture(scope="package")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One of its own, since the webhook and the admission policies would be in every other test's way."""
    binaries.ensure([binaries.HELM])
    with ControlPlane(tmp_path_factory.mktemp("control-plane")) as running:
        running.kubectl("apply", "--server-side", f"--filename={REPOSITORY / 'crds'}")
        running.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=20s")
        yield running


@pytest.fixture(scope="package")
def running_operator(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    made_later = ("CustomResourceDefinition", _WEBHOOK)
    apply(control_plane, [one for one in outside_pods() if one["kind"] not in made_later])
    serving = control_plane.authority.issue("webhook", common_name="webhook", hosts=("127.0.0.1",))
    operator = Operator(
        control_plane.service_account_kubeconfig("arbiter-system", "arbiter-operator"),
        certificate=serving.certificate,
        key=serving.key,
        log=tmp_path_factory.mktemp("operator") / "log",
    )
    operator.start()
    call_webhook_of(operator, control_plane)
    yield operator
    assert operator.stop() == 0


def call_webhook_of(operator: Operator, control_plane: ControlPlane) -> None:
    """Has the API server ask this replica about pods."""
    webhook = [one for one in outside_pods() if one["kind"] == _WEBHOOK]
    url, authority = f"https://{operator.webhook}/pods", control_plane.authority.certificate
    apply(control_plane, with_webhook_at(url, webhook, authority=authority))


def apply(control_plane: ControlPlane, objects: list[Object]) -> None:
    control_plane.kubectl("apply", "--server-side", "--filename=-", stdin=yaml.safe_dump_all(objects))


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
