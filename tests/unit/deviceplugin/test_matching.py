"""Which pod the kubelet speaks of."""

from dataclasses import replace

from arbiter.ids import NodeName
from arbiter_deviceplugin.matching import ListedContainer, being_admitted, holder_of, without_slices
from arbiter_deviceplugin.slices import SliceId
from arbiter_kube.api.objects import ObjectKey
from arbiter_kube.api.pods import GpuPod
from tests.unit.extender.builders import PodBuilder, a_pod

NODE = NodeName("n1")


def listed(name: str, *slices: str, container: str = "main") -> ListedContainer:
    return ListedContainer(ObjectKey("team", name), container, frozenset(SliceId(s) for s in slices))


def known(*builders: PodBuilder) -> dict[ObjectKey, GpuPod]:
    pods = [builder.bound("n1", "a").pod for builder in builders]
    return {ObjectKey(pod.namespace, pod.name): pod for pod in pods}


def find(*containers: ListedContainer, pods: dict[ObjectKey, GpuPod], size: int = 4) -> str | None:
    pod = being_admitted(containers, pods, size=size, node=NODE)
    return pod.name if pod else None


def test_it_is_the_listed_pod_that_has_no_slices_yet() -> None:
    pods = known(a_pod("chat"), a_pod("posters"), a_pod("to-come"))

    assert find(listed("chat", "a::0"), listed("posters"), pods=pods) == "posters"


def test_a_pod_of_another_size_is_not_meant() -> None:
    pods = known(a_pod("small"), a_pod("large").reserving(7))

    assert find(listed("small"), listed("large"), pods=pods, size=7) == "large"


def test_a_pod_that_wants_no_vram_is_not_meant() -> None:
    assert find(listed("web"), listed("chat"), pods=known(a_pod("chat"))) == "chat"


def test_a_pod_is_meant_whose_predecessor_of_the_same_name_still_holds_its_slices() -> None:
    assert find(listed("chat", "a::0"), listed("chat"), pods=known(a_pod("chat"))) == "chat"


def test_a_finished_pod_that_an_old_kubelet_still_lists_is_not_meant() -> None:
    pods = known(a_pod("done").finished(), a_pod("chat"))

    assert find(listed("done"), listed("chat"), pods=pods) == "chat"


def test_a_pod_of_that_name_on_another_node_is_not_meant() -> None:
    pods = {ObjectKey("team", "chat"): a_pod("chat").bound("n2", "a").pod}

    assert find(listed("chat"), pods=pods) is None


def test_where_several_would_do_the_one_bound_last_is_taken() -> None:
    pods = known(a_pod("late"), a_pod("early"))
    pods = {key: replace(pod, bound_at=1.0 if pod.name == "early" else 2.0) for key, pod in pods.items()}

    assert find(listed("late"), listed("early"), pods=pods) == "late"


def test_a_pod_with_slices_in_one_of_its_containers_holds_them() -> None:
    containers = [listed("chat", "a::0"), listed("chat", container="proxy"), listed("web")]

    assert without_slices(containers) == {ObjectKey("team", "web")}


def test_slices_belong_to_the_container_that_has_exactly_these() -> None:
    containers = [listed("chat", "a::0", "a::1"), listed("posters", "a::2")]

    assert holder_of(containers, frozenset({SliceId("a::2")})) == containers[1]
    assert holder_of(containers, frozenset({SliceId("a::0")})) is None
