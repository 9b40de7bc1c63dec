import pytest
import yaml

from hack.cluster import gpus
from hack.cluster.errors import SizeError

GIB = 1 << 30

SIZES = {
    "one GPU": ("12Gi", [12 * GIB]),
    "two of different size": ("12Gi,24Gi", [12 * GIB, 24 * GIB]),
    "blanks after the comma": ("12Gi, 24Gi", [12 * GIB, 24 * GIB]),
    "usable memory of a 12 GiB card": ("11919Mi", [11919 << 20]),
    "plain bytes": ("1073741824", [GIB]),
}


@pytest.mark.parametrize(("text", "sizes"), SIZES.values(), ids=SIZES)
def test_sizes_are_read_as_kubernetes_writes_them(text: str, sizes: list[int]) -> None:
    assert [gpu.size for gpu in gpus.parse(text)] == sizes


@pytest.mark.parametrize("text", ["", "12Gi,", "ten", "12GB", "-1Gi", "0Gi", "1.5Gi"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SizeError, match="write whole numbers like 12Gi or 11520Mi"):
        gpus.parse(text)


def test_the_file_of_a_node_has_every_gpu_healthy_and_empty() -> None:
    written = yaml.safe_load(gpus.render("gpu-1", gpus.parse("12Gi,24Gi")))
    common = {"reserved": 0, "used": 0, "healthy": True}
    first, second = written["gpus"]
    assert first == {"uuid": first["uuid"], "index": 0, "name": "SIM-12G", "total": 12 * GIB, **common}
    assert second == {"uuid": second["uuid"], "index": 1, "name": "SIM-24G", "total": 24 * GIB, **common}


def test_uuids_differ_between_nodes_and_gpus_and_stay_the_same() -> None:
    def uuids(node: str) -> list[str]:
        return [gpu["uuid"] for gpu in yaml.safe_load(gpus.render(node, gpus.parse("12Gi,12Gi")))["gpus"]]

    assert len({*uuids("gpu-1"), *uuids("gpu-2")}) == 4
    assert uuids("gpu-1") == uuids("gpu-1")
    assert all(uuid.startswith("GPU-") for uuid in uuids("gpu-1"))
