"""A control plane with Arbiter's CRDs, and a cluster written into it by hand: what agents and operator would say."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from arbiter_cli.main import main
from arbiter_kube.client import KubeClient
from hack.cluster.controlplane import ControlPlane
from hack.cluster.paths import REPOSITORY
from tests.component.cli.support import Arbiter, Written


@pytest.fixture(scope="package")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One of its own: these objects would be in every other test's way."""
    with ControlPlane(tmp_path_factory.mktemp("control-plane")) as running:
        running.kubectl("apply", "--server-side", f"--filename={REPOSITORY / 'crds'}")
        running.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=20s")
        asyncio.run(_write(running))
        yield running


async def _write(control_plane: ControlPlane) -> None:
    """Two pods that share a GPU of 12 GiB, and one that waits."""
    async with await KubeClient.connect(control_plane.admin_kubeconfig, component="arbiter-operator") as client:
        await Written(client).write()


@pytest.fixture
def arbiter(control_plane: ControlPlane, capsys: pytest.CaptureFixture[str]) -> Arbiter:
    """The command, by default as the cluster's administrator."""

    def run(*arguments: str, kubeconfig: Path = control_plane.admin_kubeconfig) -> tuple[int, str, str]:
        code = main([*arguments, "--kubeconfig", str(kubeconfig)])
        return code, *capsys.readouterr()

    return run
