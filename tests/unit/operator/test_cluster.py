from collections.abc import Sized
from typing import TypeVar

from arbiter.ids import NodeName, PodUid
from arbiter.units import GIB
from arbiter_kube.api import annotations as a
from arbiter_kube.api.gpuallocation import GpuAllocation
from arbiter_kube.api.gpunode import GpuNode
from arbiter_kube.api.objects import (
    Condition,
    Container,
    Node,
    NodeSpec,
    NodeStatus,
    ObjectKey,
    ObjectMeta,
    Pod,
    PodPhase,
    PodSpec,
    PodStatus,
    ResourceRequirements,
)
from arbiter_kube.api.qualitypolicy import QualityPolicy
from arbiter_kube.api.scheduling import Requests
from arbiter_operator.cluster import Cluster, Reach
from tests.unit.operator.builders import allocation, gpu_pod, report

Written = TypeVar("Written", GpuAllocation, QualityPolicy)

CHAT = ObjectKey("team-a", "chat")


def pod(name: str = "chat-0", *, version: int = 1, node: str | None = "gpu-1", **annotations: str) -> Pod:
    frozen = a.encode_demand(gpu_pod().frozen)
    keys = {f"arbiter.infernum.io/{key}": value for key, value in annotations.items()}
    limits = ResourceRequirements(limits={"arbiter.infernum.io/vram": "4"})
    return Pod(
        metadata=ObjectMeta(
            name=name,
            namespace="team-a",
            uid=f"uid-{name}",
            resource_version=str(version),
            annotations={a.DEMAND: frozen} | keys,
        ),
        spec=PodSpec(
            node_name=None if node is None else NodeName(node), containers=(Container(name="main", resources=limits),)
        ),
    )


def ready_node(name: str = "gpu-1", *, uid: str = "", unschedulable: bool = False, **labels: str) -> Node:
    return Node(
        metadata=ObjectMeta(name=name, uid=uid, labels=labels),
        spec=NodeSpec(unschedulable=unschedulable),
        status=NodeStatus(conditions=(Condition(type="Ready", status="True"),)),
    )


def gpu_node(name: str = "gpu-1", *, of: str = "") -> GpuNode:
    """`of` is the UID of the node that it is about."""
    metadata = {"name": name, "ownerReferences": [{"kind": "Node", "uid": of}] if of else []}
    return GpuNode.model_validate({"metadata": metadata, "status": report().model_dump(by_alias=True)})


def policy(name: str = "default", *, uid: str = "", **spec: object) -> QualityPolicy:
    return QualityPolicy.model_validate({"metadata": {"name": name, "uid": uid}, "spec": spec})


def of_version(thing: Written, version: int) -> Written:
    """The same, as of that version."""
    metadata = thing.metadata.model_copy(update={"resource_version": str(version)})
    return thing.model_copy(update={"metadata": metadata})


def looked_at(cluster: Cluster) -> tuple[set[NodeName], set[ObjectKey]]:
    """What changed since the last time."""
    nodes, allocations = cluster.changed_nodes, cluster.changed_allocations
    cluster.changed_nodes, cluster.changed_allocations = set(), set()
    return nodes, allocations


def filled() -> Cluster:
    cluster = Cluster(unit=GIB)
    cluster.node_applied(ready_node())
    cluster.report_applied(gpu_node())
    cluster.pod_applied(pod())
    looked_at(cluster)
    return cluster


def test_a_bound_pod_has_its_node_and_its_allocation_looked_at() -> None:
    cluster = filled()
    cluster.pod_applied(pod("chat-1"))
    assert looked_at(cluster) == ({NodeName("gpu-1")}, {CHAT})


def test_only_the_node_that_changed_is_looked_at() -> None:
    cluster = filled()
    cluster.report_applied(gpu_node("gpu-2"))
    assert looked_at(cluster) == ({NodeName("gpu-2")}, set())


def test_a_change_that_means_nothing_to_us_is_none() -> None:
    cluster = filled()
    changed = pod(version=2)
    cluster.pod_applied(changed)
    assert looked_at(cluster) == (set(), set())
    known = cluster.pod(PodUid("uid-chat-0"))
    assert known is not None
    assert known.raw is changed


def test_while_it_waits_kube_schedulers_word_counts() -> None:
    cluster = filled()
    cluster.pod_applied(pod("late", node=None))
    looked_at(cluster)
    refused = pod("late", node=None, version=2)
    conditions = PodStatus(conditions=(Condition(type="PodScheduled", status="False"),))
    cluster.pod_applied(Pod(metadata=refused.metadata, spec=refused.spec, status=conditions))
    assert looked_at(cluster) == (set(), {CHAT})


def test_an_older_version_is_ignored() -> None:
    cluster = filled()
    cluster.pod_written(pod(version=9, gpus="GPU-0"))
    cluster.pod_applied(pod(version=8))
    assert [seen.gpus for seen in cluster.pods_of(CHAT)] == [("GPU-0",)]


def test_a_write_does_not_bring_a_deleted_pod_back() -> None:
    cluster = filled()
    cluster.pod_deleted(pod())
    cluster.pod_written(pod(version=9))
    assert cluster.pods_of(CHAT) == []
    assert looked_at(cluster) == ({NodeName("gpu-1")}, {CHAT})


def test_a_write_takes_back_no_edit_that_the_watch_told_of_before_its_answer_came() -> None:
    cluster = filled()
    chat, default = of_version(allocation("chat", priority="Low"), 9), of_version(policy(weight=2), 9)
    cluster.allocation_applied(chat)
    cluster.policy_applied(default)
    cluster.allocation_written(of_version(allocation("chat"), 8))
    cluster.policy_written(of_version(policy(), 8))
    assert (cluster.allocations, cluster.policies) == ({CHAT: chat}, {"default": default})


def test_a_write_does_not_bring_a_deleted_allocation_or_policy_back() -> None:
    cluster = filled()
    cluster.allocation_written(allocation("chat"))
    cluster.policy_written(policy())
    assert (cluster.allocations, cluster.policies) == ({}, {})


def test_pods_without_gpu_memory_are_not_kept() -> None:
    cluster = filled()
    cluster.pod_applied(Pod(metadata=ObjectMeta(name="web", namespace="team-a", uid="web")))
    assert cluster.pod(PodUid("web")) is None


def test_a_policy_that_changes_has_every_node_looked_at() -> None:
    cluster = filled()
    cluster.policy_applied(policy(mode="LlmFirst"))
    assert looked_at(cluster)[0] == {NodeName("gpu-1")}
    state = cluster.node_state(NodeName("gpu-1"))
    assert state is not None
    assert (state.policy.mode, state.policy_name) == ("LlmFirst", "default")


def test_a_policy_of_other_nodes_leaves_a_node_alone() -> None:
    cluster = filled()
    cluster.policy_applied(policy())
    before = cluster.node_state(NodeName("gpu-1"))
    looked_at(cluster)
    cluster.policy_applied(policy("demo", nodeSelector={"pool": "demo"}, weight=1, mode="LlmFirst"))
    assert looked_at(cluster)[0] == set()
    assert cluster.node_state(NodeName("gpu-1")) is before


def test_a_policy_that_was_made_anew_as_it_was_has_its_status_looked_at_and_no_node() -> None:
    cluster = filled()
    cluster.policy_applied(policy(uid="former"))
    looked_at(cluster)
    cluster.changed_policies = False
    cluster.policy_applied(policy(uid="new"))
    assert (cluster.changed_policies, looked_at(cluster)) == (True, (set(), set()))


def test_labels_choose_the_policy_of_a_node() -> None:
    cluster = filled()
    cluster.policy_applied(policy())
    cluster.policy_applied(policy("demo", nodeSelector={"pool": "demo"}, weight=1))
    cluster.node_applied(ready_node(pool="demo"))
    chosen = cluster.policy_of(NodeName("gpu-1"))
    assert chosen is not None
    assert chosen.metadata.name == "demo"


def test_what_is_told_of_a_former_node_of_the_name_counts_for_nothing() -> None:
    cluster = filled()
    cluster.policy_applied(policy())
    cluster.node_applied(ready_node(uid="first"))
    cluster.report_applied(gpu_node(of="first"))
    assert cluster.node_state(NodeName("gpu-1")) is not None
    looked_at(cluster)
    cluster.changed_policies = False

    cluster.node_applied(ready_node(uid="second"))
    assert looked_at(cluster) == ({NodeName("gpu-1")}, {CHAT})
    assert cluster.changed_policies
    assert cluster.node_state(NodeName("gpu-1")) is None
    assert (cluster.nodes_with_gpus(), cluster.reports) == ([], {})
    assert cluster.reach_of(policy()) == Reach(selected=0, in_force=0)

    cluster.changed_policies = False
    cluster.report_applied(gpu_node(of="second"))
    assert cluster.changed_policies
    assert cluster.node_state(NodeName("gpu-1")) is not None


def test_a_node_that_goes_takes_its_policy_along_though_its_agents_word_is_still_there() -> None:
    cluster = filled()
    selecting = policy("pool", nodeSelector={"pool": "a"})
    cluster.policy_applied(selecting)
    cluster.node_applied(ready_node(pool="a"))
    assert cluster.reach_of(selecting) == Reach(selected=1, in_force=1)
    cluster.changed_policies = False

    cluster.node_deleted(ready_node())
    assert cluster.changed_policies
    assert cluster.reach_of(selecting) == Reach(selected=0, in_force=0)


def test_what_a_list_does_not_name_is_gone() -> None:
    cluster = filled()
    cluster.allocations_listed([allocation("chat"), allocation("old")], before=set())
    cluster.allocations_listed([allocation("chat")], before={*cluster.allocations})
    cluster.policies_listed([policy(), policy("old")], before=set())
    cluster.policies_listed([policy()], before={*cluster.policies})
    assert ([*cluster.allocations], [*cluster.policies]) == ([CHAT], ["default"])


def test_the_late_end_of_a_former_one_is_no_end_of_the_one_that_was_made_anew() -> None:
    cluster, new = filled(), allocation("chat")
    cluster.allocation_applied(new)
    cluster.allocation_deleted(CHAT, uid="uid-of-the-former")
    cluster.policy_applied(policy())
    cluster.policy_deleted("default", uid="uid-of-the-former")
    assert (cluster.allocations, [*cluster.policies]) == ({CHAT: new}, ["default"])
    cluster.allocation_deleted(CHAT, uid=new.metadata.uid)
    cluster.policy_deleted("default", uid="")
    assert (cluster.allocations, cluster.policies) == ({}, {})


def test_a_list_takes_back_nothing_that_came_while_it_was_on_its_way() -> None:
    cluster, new = filled(), allocation("chat", priority="Low")
    edited = of_version(new, 9)
    before = {*cluster.allocations}
    cluster.allocation_applied(edited)
    cluster.allocation_applied(allocation("younger"))
    cluster.policy_applied(policy("younger"))
    cluster.allocations_listed([allocation("chat")], before=before)
    cluster.policies_listed([], before=set())
    assert cluster.allocations == {CHAT: edited, ObjectKey("team-a", "younger"): allocation("younger")}
    assert [*cluster.policies] == ["younger"]


def test_what_nobody_asks_for_is_counted_over_all_pods_of_a_node() -> None:
    cluster, node = Cluster(unit=GIB), ready_node()
    offered = Node(metadata=node.metadata, status=NodeStatus(allocatable={"cpu": "8", "memory": "16Gi"}))
    limits = ResourceRequirements(requests={"cpu": "1500m", "memory": "4Gi"})
    web = Pod(
        metadata=ObjectMeta(name="web", uid="web"),
        spec=PodSpec(node_name=NodeName("gpu-1"), containers=(Container(resources=limits),)),
    )
    cluster.pod_applied(web)
    cluster.pod_applied(web)
    assert cluster.idle_on(offered) == Requests(cpu=6500, memory=12 * GIB)
    assert cluster.requests_on(node.name) == {"web": Requests(cpu=1500, memory=4 * GIB)}
    over = Pod(metadata=web.metadata, spec=web.spec, status=PodStatus(phase=PodPhase.SUCCEEDED))
    cluster.pod_applied(over)
    assert cluster.idle_on(offered) == Requests(cpu=8000, memory=16 * GIB)
    cluster.pod_deleted(over)
    assert cluster.idle_on(offered) == Requests(cpu=8000, memory=16 * GIB)


def test_an_older_version_of_a_pod_that_is_over_asks_for_nothing_again() -> None:
    cluster, running = Cluster(unit=GIB), pod(version=1)
    over = Pod(metadata=pod(version=2).metadata, spec=running.spec, status=PodStatus(phase=PodPhase.SUCCEEDED))
    cluster.pod_applied(over)
    cluster.pod_written(running)
    assert cluster.requests_on(NodeName("gpu-1")) == {}


def size(of: object) -> int:
    """How many entries it keeps, those of its own parts among them."""
    held = vars(of).values()
    parts = (each for each in held if type(each).__module__.startswith("arbiter_operator."))
    return sum(len(each) for each in held if isinstance(each, Sized)) + sum(size(each) for each in parts)


def test_names_that_come_and_go_for_ever_leave_nothing_behind() -> None:
    cluster = Cluster(unit=GIB)
    before = size(cluster)
    for number in range(3):
        name = f"gpu-{number}"
        cluster.node_applied(ready_node(name))
        cluster.report_applied(gpu_node(name))
        cluster.pod_applied(pod(node=name))
        assert cluster.node_state(NodeName(name)) is not None
        cluster.pod_deleted(pod(node=name))
        cluster.report_deleted(gpu_node(name))
        cluster.node_deleted(ready_node(name))
        assert (cluster.requests_on(NodeName(name)), cluster.idle_on(ready_node(name))) == ({}, Requests())
    cluster.forget_changes()
    assert size(cluster) == before
