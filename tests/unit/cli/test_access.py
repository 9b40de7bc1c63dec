"""What people are told when a cluster cannot be reached or refuses, and how sizes, ages and columns are printed."""

import pytest

from arbiter.units import GIB
from arbiter_cli.access import sentence
from arbiter_cli.printing import age, columns, gib
from arbiter_kube.client import KubeError, Unreachable
from arbiter_kube.client.errors import api_error

SERVER = "https://10.0.0.1:6443"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            Unreachable("list pods: no answer from the API server: Connect call failed"),
            f"the API server {SERVER} does not answer (Connect call failed); "
            "start the cluster, or name another --context.",
        ),
        (
            api_error(action="list gpunodes", status=404, body=b"404 page not found\n"),
            f"the API server {SERVER} serves no arbiter.infernum.io; "
            "install Arbiter (arbiter doctor says what is missing).",
        ),
        (
            api_error(
                action="list pods", status=403, body=b'{"message": "pods is forbidden: User \\"x\\" cannot list"}'
            ),
            'pods is forbidden: User "x" cannot list; ask for this right, or use another --context.',
        ),
        (
            api_error(action="list pods", status=401, body=b'{"message": "Unauthorized"}'),
            f"the API server {SERVER} does not know you; log in anew, or use another --context.",
        ),
        (
            api_error(action="list pods", status=500, body=b'{"reason": "InternalError", "message": "etcd"}'),
            "list pods: 500 InternalError: etcd.",
        ),
    ],
)
def test_a_cluster_that_does_not_answer_is_one_sentence(error: KubeError, said: str) -> None:
    assert sentence(error, server=SERVER) == said


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (-3, "0s"),
        (41.9, "41s"),
        (119, "119s"),
        (120, "2m"),
        (150, "2m30s"),
        (3000, "50m"),
        (4 * 3600 + 300, "4h5m"),
        (30 * 3600, "30h"),
        (3 * 86400, "3d"),
        (3 * 86400 + 7200, "3d2h"),
        (400 * 86400, "400d"),
    ],
)
def test_ages_are_written_as_kubectl_writes_them(seconds: float, written: str) -> None:
    assert age(seconds) == written


def test_sizes_and_columns() -> None:
    assert (gib(12 * GIB), gib(None)) == ("12.00Gi", "-")
    assert columns([("A", "LONG"), ("BBB", "x")]) == ["A    LONG", "BBB  x"]
