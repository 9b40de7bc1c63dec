import base64
from pathlib import Path

import pytest
import yaml

from hack.cluster import kubeconfig
from hack.cluster.cli import STATE_DIRECTORY, parser


def test_a_kubeconfig_with_a_token() -> None:
    text = kubeconfig.render(
        server="https://127.0.0.1:6443", authority=b"CA", credential=kubeconfig.Token("secret"), namespace="team-a"
    )
    assert yaml.safe_load(text) == {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "arbiter",
                "cluster": {"server": "https://127.0.0.1:6443", "certificate-authority-data": encoded(b"CA")},
            }
        ],
        "users": [{"name": "arbiter", "user": {"token": "secret"}}],
        "contexts": [{"name": "arbiter", "context": {"cluster": "arbiter", "user": "arbiter", "namespace": "team-a"}}],
        "current-context": "arbiter",
    }


def test_a_kubeconfig_with_a_certificate() -> None:
    credential = kubeconfig.ClientCertificate(certificate=b"CERTIFICATE", key=b"KEY")
    text = kubeconfig.render(server="https://127.0.0.1:6443", authority=b"CA", credential=credential)
    assert yaml.safe_load(text)["users"][0]["user"] == {
        "client-certificate-data": encoded(b"CERTIFICATE"),
        "client-key-data": encoded(b"KEY"),
    }


def test_only_the_owner_reads_a_written_kubeconfig(tmp_path: Path) -> None:
    path = kubeconfig.write(tmp_path / "new" / "kubeconfig", "text")
    assert path.read_text() == "text"
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_command_line_has_the_sizes_of_the_walk_by_default() -> None:
    assert vars(parser().parse_args(["up"])) == {
        "command": "up",
        "state_dir": STATE_DIRECTORY,
        "nodes": 1,
        "gpus": "12Gi",
        "without_arbiter": False,
    }


@pytest.mark.parametrize("arguments", [[], ["up", "--nodes", "two"], ["sideways"]])
def test_a_command_line_that_makes_no_sense_ends_with_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(arguments)
    assert ended.value.code == 2


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
