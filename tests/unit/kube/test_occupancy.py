from dataclasses import replace

import pytest

from arbiter.ids import GpuUuid, NodeName, OwnerUid, PodUid
from arbiter.placement import GpuRoom
from arbiter.policy import Policy
from arbiter.units import GIB
from arbiter.workload import PolicyMode, Priority
from arbiter_kube.api.gpunode import GrantState
from arbiter_kube.api.occupancy import NodeOccupancy, Promise, Standing, occupancy
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.api.reports import NodeReport, ReportedNode
from arbiter_kube.client import codec
from tests.unit.extender.builders import NodeBuilder, PodBuilder, a_node, a_pod

N1 = NodeName("n1")
A, B = GpuUuid("a"), GpuUuid("b")
NODE = a_node("n1").gpu("a", "12Gi").gpu("b", "12Gi")
ADAPTIVE, FIXED = Policy(), Policy(mode=PolicyMode.FIXED)


def seen(
    node: NodeBuilder,
    *pods: PodBuilder,
    promises: tuple[Promise, ...] = (),
    policy: Policy = ADAPTIVE,
    unit: int = GIB,
) -> NodeOccupancy:
    return occupancy(N1, node.report, pods=[pod.pod for pod in pods], promises=promises, policy=policy, unit=unit)


def floors(there: NodeOccupancy) -> dict[str, int]:
    """The largest floor with room on each GPU, in GiB."""
    return {gpu.uuid: gpu.largest_floor(unit=GIB) // GIB for gpu in there.room.gpus}


FLOORS: dict[str, tuple[NodeOccupancy, dict[str, int]]] = {
    "an empty node has its whole GPUs": (seen(NODE), {"a": 12, "b": 12}),
    "a floor is taken on the pod's own GPU": (seen(NODE, a_pod("chat").bound("n1", "a")), {"a": 8, "b": 12}),
    "a pod of two GPUs takes its floor on both": (
        seen(NODE, a_pod("wide").gpus(2).bound("n1", "a", "b")),
        {"a": 8, "b": 8},
    ),
    "slices beyond the floor are kept until the kubelet gives them back": (
        seen(NODE, a_pod("edited").reserving(6).bound("n1", "a")),
        {"a": 6, "b": 12},
    ),
    "a GPU that is ill is no room, and whoever sits there is no member of another": (
        seen(
            a_node("n1").gpu("a", "12Gi", healthy=False).gpu("b", "12Gi"),
            a_pod("wide").gpus(2).bound("n1", "a", "b"),
        ),
        {"b": 8},
    ),
    "bytes of a container whose pod nobody shows are taken": (
        seen(NODE.grant("ghost", "a", held="2560Mi")),
        {"a": 9, "b": 12},
    ),
    "a finished pod's bytes are taken until the node says they are free": (
        seen(NODE.grant("done", "a", held="9Gi"), a_pod("done").bound("n1", "a").finished()),
        {"a": 3, "b": 12},
    ),
    "a finished pod of which the node says nothing takes nothing": (
        seen(NODE.grant("done", "a", held="0").slices("done", "a", 4), a_pod("done").bound("n1", "a").finished()),
        {"a": 12, "b": 12},
    ),
    "a floor is taken where the container is, stray slices only as slices": (
        seen(
            NODE.slices("chat", "a", 1)
            .slices("chat", "b", 3)
            .grant("chat", "a", held="10Gi", state=GrantState.MOVABLE),
            a_pod("chat").bound("n1", "a"),
        ),
        {"a": 8, "b": 9},
    ),
    "a pod bound to GPUs that are no longer there may be on any": (
        seen(NODE, a_pod("old").gpus(2).bound("n1", "a", "gone")),
        {"a": 8, "b": 8},
    ),
    "so may one that is being bound to them": (
        seen(NODE, promises=(Promise(pod=a_pod("next").pod, gpus=(GpuUuid("gone"),), standing=Standing.ASSUMED),)),
        {"a": 8, "b": 8},
    ),
    "unless the kubelet says where it is": (
        seen(NODE.slices("old", "b", 4), a_pod("old").bound("n1", "gone")),
        {"a": 12, "b": 8},
    ),
    "or the node that it runs on a GPU that fell away": (
        seen(NODE.grant("old", "gone", held="9Gi"), a_pod("old").bound("n1", "gone")),
        {"a": 12, "b": 12},
    ),
    "slices of a former pod of the same name are taken beside the pod's own until it is allocated": (
        seen(NODE.slices("chat", "a", 4).grant("chat", "a", held="0", by="former"), a_pod("chat").bound("n1", "a")),
        {"a": 4, "b": 12},
    ),
    "from then on they are the pod's own": (
        seen(
            NODE.slices("chat", "a", 4)
            .grant("chat", "a", held="1Gi", by="former")
            .grant("chat", "a", held="4Gi", state=GrantState.MOVABLE),
            a_pod("chat").bound("n1", "a"),
        ),
        {"a": 7, "b": 12},
    ),
    "a node that still counts in another unit has no room": (seen(NODE, unit=GIB // 2), {}),
}


@pytest.mark.parametrize("sentence", FLOORS)
def test_room_for_floors(sentence: str) -> None:
    there, expected = FLOORS[sentence]
    assert floors(there) == expected


CHAT, ONCE = a_pod("chat").bound("n1", "a"), a_pod("once").at_start().bound("n1", "a")

STARTS: dict[str, tuple[NodeOccupancy, dict[str, int]]] = {
    "where sizes move a pod that has no grant yet takes its floor": (seen(NODE, CHAT), {"a": 8, "b": 12}),
    "where none does it takes what it may start with": (seen(NODE, CHAT, policy=FIXED), {"a": 2, "b": 12}),
    "so does an engine that is sized once under any policy": (seen(NODE, ONCE), {"a": 2, "b": 12}),
    "its start may wait, and is still to come": (
        seen(NODE.grant("once", "a", held="0", state=GrantState.GATED), ONCE),
        {"a": 2, "b": 12},
    ),
    "one that is being bound is on its way": (
        seen(NODE, promises=(Promise(pod=a_pod("once").at_start().pod, gpus=(A,), standing=Standing.ASSUMED),)),
        {"a": 2, "b": 12},
    ),
    "one that is nominated has its floor kept": (
        seen(NODE, promises=(Promise(pod=a_pod("once").at_start().pod, gpus=(A,), standing=Standing.NOMINATED),)),
        {"a": 8, "b": 12},
    ),
    "two that may both start with all leave nothing": (
        seen(NODE, CHAT, a_pod("posters").bound("n1", "a"), policy=FIXED),
        {"a": 0, "b": 12},
    ),
    "once it has started it takes what it was given": (
        seen(NODE.grant("once", "a", held="7Gi", state=GrantState.HELD), ONCE),
        {"a": 5, "b": 12},
    ),
    "also while it is down, since that is kept for its next start": (
        seen(NODE.grant("once", "a", held="7Gi", state=GrantState.DOWN), ONCE),
        {"a": 5, "b": 12},
    ),
    "one that leaves before it started never will": (seen(NODE, ONCE.terminating()), {"a": 8, "b": 12}),
}


@pytest.mark.parametrize("sentence", STARTS)
def test_room_beside_those_who_start(sentence: str) -> None:
    there, expected = STARTS[sentence]
    assert floors(there) == expected


def nominated(name: str, *, priority: Priority = Priority.NORMAL, created_at: float = 0.0) -> Promise:
    pod: GpuPod = replace(a_pod(name).priority(priority).pod, created_at=created_at)
    return Promise(pod=pod, gpus=(A,), standing=Standing.NOMINATED)


NOMINATIONS: dict[str, tuple[tuple[Promise, ...], set[str]]] = {
    "those that fit together are kept": ((nominated("one"), nominated("two")), {"one", "two"}),
    "of those that do not, the higher priority": (
        (nominated("low", priority=Priority.LOW), nominated("high", priority=Priority.HIGH), nominated("normal")),
        {"high", "normal"},
    ),
    "then the earlier": (
        (nominated("late", created_at=3), nominated("early", created_at=1), nominated("then", created_at=2)),
        {"early", "then"},
    ),
    "none beside a promise that fills the GPU": (
        (
            nominated("one"),
            Promise(pod=a_pod("big").sizes(full="9Gi", floor="9Gi").pod, gpus=(A,), standing=Standing.ASSUMED),
        ),
        {"big"},
    ),
}


@pytest.mark.parametrize("sentence", NOMINATIONS)
def test_of_the_nominated_pods(sentence: str) -> None:
    promises, expected = NOMINATIONS[sentence]
    there = seen(a_node("n1").gpu("a", "10Gi"), promises=promises)
    assert {claim.pod.removeprefix("team/") for claim in there.claims} == expected


def test_a_gpu_knows_its_members_their_owners_and_its_links() -> None:
    chat = PodBuilder(pod=replace(a_pod("chat").bound("n1", "a").pod, owner=OwnerUid("deploy")))
    there = seen(NODE.links("a", "b"), chat)
    [claim] = there.claims
    assert there.room.gpus == (
        GpuRoom(
            uuid=A,
            usable=12 * GIB,
            members=tuple(filter(None, [claim.member])),
            owners=(OwnerUid("deploy"),),
            links=frozenset({B}),
        ),
        GpuRoom(uuid=B, usable=12 * GIB),
    )


def test_who_has_not_shown_that_it_moves_keeps_its_bytes_from_newcomers() -> None:
    there = seen(NODE.grant("new", "a", held="10Gi", state=GrantState.STARTING), a_pod("new").bound("n1", "a"))
    assert floors(there) == {"a": 2, "b": 12}


def test_a_report_is_read_alike_however_it_comes() -> None:
    node = NODE.links("a", "b").grant("chat", "a", held="9Gi", state=GrantState.LATE).slices("chat", "a", 4)
    whole = codec.encode({"metadata": {"name": "n1", "uid": "x"}, "status": node.status})
    decoded = codec.decode(whole, ReportedNode)
    assert (decoded.name, decoded.status) == (N1, node.report)
    assert decoded.status.grants[0].pod_uid == PodUid("uid-chat")


def test_a_node_of_which_nothing_was_said_has_nothing() -> None:
    decoded = codec.decode(b'{"metadata": {"name": "n1"}}', ReportedNode)
    assert decoded.status == NodeReport()
