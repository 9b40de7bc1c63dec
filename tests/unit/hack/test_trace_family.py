"""The lists that hack.trace_family draws have the shares that they are named for."""

from collections.abc import Callable
from pathlib import Path

import pytest

from arbiter.simulation import TracePod
from arbiter_cli.traces import read_nodes, read_pods
from hack.trace_family import write_family

HEADER = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
NODES = "sn,cpu_milli,memory_mib,gpu,model\nn-0,64000,262144,2,T4\n"


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn from 400 pods: as many without GPUs as with a part, one, and two."""
    folder = tmp_path_factory.mktemp("family")
    rows = [f"p-{number:03},1000,1024,{('0,0', '1,400', '1,1000', '2,1000')[number % 4]},\n" for number in range(400)]
    (folder / "pods.csv").write_text(HEADER + "".join(rows))
    (folder / "node_list.csv").write_text(NODES)
    write_family(folder / "pods.csv", folder / "drawn")
    assert read_nodes(folder / "drawn" / "node_list.csv") == read_nodes(folder / "node_list.csv")
    return folder / "drawn"


def of_pods(is_one: Callable[[TracePod], bool], pods: list[TracePod]) -> float:
    return sum(map(is_one, pods)) / len(pods)


def of_demand(is_one: Callable[[TracePod], bool], pods: list[TracePod]) -> float:
    return sum(pod.demand for pod in pods if is_one(pod)) / sum(pod.demand for pod in pods)


SHARES: dict[str, tuple[float, Callable[[list[TracePod]], float]]] = {
    "cpu050": (0.05, lambda pods: of_pods(lambda pod: not pod.gpus, pods)),
    "gpushare60": (0.6, lambda pods: of_demand(lambda pod: pod.is_share, pods)),
    "multigpu50": (0.5, lambda pods: of_demand(lambda pod: pod.gpus > 1, pods)),
    "gpuspec33": (0.33, lambda pods: of_pods(lambda pod: bool(pod.models), [pod for pod in pods if pod.gpus])),
}


@pytest.mark.parametrize("name", SHARES)
def test_a_sort_of_pods_has_its_share(name: str, family: Path) -> None:
    expected, share = SHARES[name]
    assert share(read_pods(family / f"like_{name}.csv")) == pytest.approx(expected, abs=0.03)
