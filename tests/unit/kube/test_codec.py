import msgspec

from arbiter_kube.api.fields import ObjectMeta
from arbiter_kube.api.gpunode import GpuNode
from arbiter_kube.client import codec


def test_an_item_of_a_list_is_read_as_a_pydantic_model_too() -> None:
    item = msgspec.json.decode(b'[{"metadata": {"name": "gpu-1"}}]', type=list[msgspec.Raw])[0]
    assert codec.decode(item, GpuNode) == GpuNode(metadata=ObjectMeta(name="gpu-1"))
