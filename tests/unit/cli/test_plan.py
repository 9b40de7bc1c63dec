"""`arbiter plan` on real manifests: what they would get, where, and what has no room."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from arbiter.units import GIB, MIB
from arbiter_cli.main import main
from arbiter_cli.planning import MOST_PODS
from tests.unit.cli.builders import Write, allocation, capped, inline, pod, policy, template, workload

EXAMPLES = Path(__file__).parents[3] / "examples"
CHAT, POSTERS = str(EXAMPLES / "chat.yaml"), str(EXAMPLES / "posters.yaml")


def names(answer: dict[str, Any]) -> list[list[str]]:
    """Members by GPU."""
    return [[member["name"] for member in gpu["members"]] for gpu in answer["gpus"]]


def test_the_demo_as_json(planned: Callable[..., dict[str, Any]]) -> None:
    answer = planned(CHAT, POSTERS, "--gpu", "12Gi")

    price = answer["gpus"][0].pop("price")
    assert round(price, 4) == 0.3561  # a floor of 1843Mi is a little below 1.8 GiB
    assert answer == {
        "gpus": [
            {
                "name": "gpu-0",
                "capacityBytes": 12 * GIB,
                "usedBytes": 12284 * MIB,
                "members": [
                    {
                        "namespace": "team-a",
                        "name": "chat",
                        "quality": 0.904,
                        "vramBytes": 9256 * MIB,
                        "floorBytes": 4 * GIB,
                    },
                    {
                        "namespace": "team-b",
                        "name": "posters",
                        "quality": 0.493,
                        "vramBytes": 3028 * MIB,
                        "floorBytes": 1843 * MIB,
                    },
                ],
            }
        ],
        "unplaced": [],
        "code": 0,
    }


def test_the_examples_as_a_table_by_the_real_command() -> None:
    command = Path(sys.executable).with_name("arbiter")
    done = subprocess.run(
        [command, "plan", "-f", EXAMPLES, "--gpu", "12Gi"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == (
        "gpu-0: full sizes add up to 16.0 GiB, 12.00 are usable. Price 0.356 (High), mode Adaptive.\n"
        "  chat      High        floor  4.0  full 10.0  has  9.04 GiB  0.904\n"
        "  posters   Background  floor  1.8  full  6.0  has  2.96 GiB  0.493\n"
        "Unplaced:\n"
        "  render-0  needs 10Gi on one GPU; gpu-0 has 6Gi, and 10Gi once team-a/chat (High) ends\n"
        "GPU sizes are usable memory: of a 12 GiB card the driver usually leaves 11.64Gi.\n"
    )
    assert (done.returncode, done.stderr) == (1, "")


def test_the_mode_of_the_command_line_overrides_the_policy(planned: Callable[..., dict[str, Any]]) -> None:
    answer = planned(CHAT, POSTERS, "--mode", "LlmFirst")
    assert [member["quality"] for member in answer["gpus"][0]["members"]] == [0.926, 0.455]


@pytest.mark.parametrize(
    ("spec", "qualities"),
    [
        ({"mode": "Balanced"}, [0.801, 0.664]),
        ({"pressureThreshold": 0.85}, [0.834, 0.454]),
        ({"minimumQuality": {"image": 0.5}}, [0.987, 0.538]),
    ],
)
def test_a_policy_among_the_manifests_is_in_force(
    spec: dict[str, Any], qualities: list[float], write: Write, planned: Callable[..., dict[str, Any]]
) -> None:
    posters = yaml.safe_load_all(Path(POSTERS).read_text())
    answer = planned(write(policy(**spec), *yaml.safe_load_all(Path(CHAT).read_text()), *posters))
    assert [member["quality"] for member in answer["gpus"][0]["members"]] == qualities


COUNTED: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "a bare pod": ([pod("a", inline())], ["a"]),
    "one replica keeps its name": ([workload("Deployment", "a", inline())], ["a"]),
    "replicas are numbered": ([workload("StatefulSet", "a", inline(), replicas=2)], ["a-0", "a-1"]),
    "none of a workload that is scaled down": ([workload("Deployment", "a", inline(), replicas=0)], []),
    "a job's pods at a time": ([workload("Job", "a", inline(), parallelism=3, completions=2)], ["a-0", "a-1"]),
    "a job by default": ([workload("Job", "a", inline(), completions=5)], ["a"]),
    "a daemon set's pod on the node": ([workload("DaemonSet", "a", inline())], ["a"]),
    "a cron job's pod": (
        [{"kind": "CronJob", "metadata": {"name": "a"}, "spec": {"jobTemplate": {"spec": {"template": inline()}}}}],
        ["a"],
    ),
    "an allocation once for each pod that names it": (
        [allocation(), workload("Deployment", "a", template(allocation="chat"), replicas=2)],
        ["a-0", "a-1"],
    ),
    "an allocation once where no pod names it": ([allocation()], ["chat"]),
    "an allocation of another namespace is another one": (
        [allocation(), allocation(namespace="other"), pod("a", template(allocation="chat"))],
        ["chat", "a"],
    ),
    "an object that is there twice, once": ([pod("a", inline()), pod("b", inline()), pod("a", inline())], ["a", "b"]),
    "the members of a list": ([{"kind": "List", "items": [pod("a", inline()), pod("b", inline())]}], ["a", "b"]),
    "the members of a list that say nothing of their kind": (
        [{"kind": "PodList", "apiVersion": "v1", "items": [{**pod("a", inline()), "kind": None}]}],
        ["a"],
    ),
    "the members of a list in a list": (
        [{"kind": "List", "items": [{"kind": "List", "items": [pod("a", inline())]}]}],
        ["a"],
    ),
    "nothing of an empty list": ([{"kind": "List", "items": None}], []),
    "objects whose names are generated, each for itself": (
        [{**pod("", inline()), "metadata": {"generateName": "a-", **inline()["metadata"]}}] * 2,
        ["a-0", "a-1"],
    ),
    "pods up to the priority that their namespace may have": (
        [capped("default", "Normal"), capped("other", "Low"), pod("a", inline())],
        ["a"],
    ),
    "none of a job that is suspended": ([workload("Job", "a", inline(), suspend=True)], []),
    "no more pods of a job than are asked for at a time": (
        [workload("Job", "a", inline(), parallelism=2)],
        ["a-0", "a-1"],
    ),
    "a replica set's replicas": ([workload("ReplicaSet", "a", inline(), replicas=2)], ["a-0", "a-1"]),
    "nothing that asks for no memory": ([{"kind": "Service", "metadata": {"name": "s"}}, pod("p", template())], []),
}


@pytest.mark.parametrize(("objects", "expected"), COUNTED.values(), ids=COUNTED.keys())
def test_what_counts(
    objects: list[dict[str, Any]], expected: list[str], write: Write, planned: Callable[..., dict[str, Any]]
) -> None:
    answer = planned(write(*objects), "--gpu", "48Gi")
    assert names(answer) == [expected]
    assert answer["code"] == 0


def test_the_extended_resource_alone_is_a_fixed_demand(write: Write, planned: Callable[..., dict[str, Any]]) -> None:
    for quantity in ("10", 10):
        asking = pod("triton", template({"arbiter.infernum.io/vram": quantity}))
        answer = planned(write(asking, pod("chat", inline())), "--gpu", "16Gi")
        assert [(m["name"], m["vramBytes"]) for m in answer["gpus"][0]["members"]] == [
            ("triton", 10 * GIB),
            ("chat", 6 * GIB),
        ]


def test_a_demand_of_two_gpus_is_a_member_of_both(write: Write, planned: Callable[..., dict[str, Any]]) -> None:
    answer = planned(write(pod("wide", inline(gpu_count="2")), pod("a", inline())), "--gpu", "12Gi,12Gi")
    assert names(answer) == [["wide", "a"], ["wide"]]
    assert [member["quality"] for gpu in answer["gpus"] for member in gpu["members"]] == [0.6, 0.6, 0.6]


UNPLACED: dict[str, tuple[list[dict[str, Any]], list[str], str]] = {
    "a floor larger than any GPU": (
        [pod("a", inline(vram_floor="30Gi", vram_full="40Gi"))],
        ["--gpu", "12Gi", "24Gi"],
        "needs 30Gi on one GPU; the largest, gpu-1, has 24Gi in all",
    ),
    "floors that are already there": (
        [pod("x", inline(priority="Low")), pod("y", inline()), pod("a", inline(vram_floor="5Gi"))],
        ["--gpu", "12Gi"],
        "needs 5Gi on one GPU; gpu-0 has 4Gi, and 8Gi once default/x (Low) ends",
    ),
    "the full size of one that is sized once, until it has started": (
        [pod("x", inline(resize="AtStart")), pod("a", inline())],
        ["--gpu", "12Gi"],
        "needs 4Gi on one GPU; gpu-0 has 2Gi, and 12Gi once default/x (Normal) ends",
    ),
    "more GPUs than there are": (
        [pod("a", inline(gpu_count="2"))],
        ["--gpu", "12Gi"],
        "needs 4Gi on each of 2 GPUs of a node; the node has room on 1 of 1",
    ),
    "more GPUs than any node has": (
        [pod("a", inline(gpu_count="3"))],
        ["--node", "x=12Gi", "y=12Gi,12Gi"],
        "needs 4Gi on each of 3 GPUs of a node; y has room on 2 of 2",
    ),
    "floors in whole units": (
        [pod("x", inline(vram_floor="1500Mi")), pod("a", inline(vram_floor="1500Mi"))],
        ["--gpu", "3Gi"],
        "needs 1500Mi on one GPU; gpu-0 has 1Gi, and 3Gi once default/x (Normal) ends",
    ),
    "a daemon set on the node that is full": (
        [pod("x", inline(vram_floor="20Gi", vram_full="20Gi")), workload("DaemonSet", "a", inline())],
        ["--node", "small=12Gi", "large=20Gi"],
        "needs 4Gi on one GPU; large/0 has 0, and 20Gi once default/x (Normal) ends",
    ),
}


@pytest.mark.parametrize(("objects", "hardware", "reason"), UNPLACED.values(), ids=UNPLACED.keys())
def test_what_has_no_room_says_why_and_the_answer_is_no(
    objects: list[dict[str, Any]],
    hardware: list[str],
    reason: str,
    write: Write,
    planned: Callable[..., dict[str, Any]],
) -> None:
    answer = planned(write(*objects), *hardware)
    assert [(one["replicas"], one["reason"]) for one in answer["unplaced"]] == [(1, reason)]
    assert answer["code"] == 1


def test_the_first_replica_without_room_speaks_for_the_rest(
    write: Write, planned: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(workload("Deployment", "a", inline(), replicas=1_000_000))

    answer = planned(path, "--gpu", "12Gi")
    assert names(answer) == [["a-0", "a-1", "a-2"]]
    assert answer["unplaced"] == [
        {
            "namespace": "default",
            "name": "a-3",
            "replicas": 999_997,
            "reason": "needs 4Gi on one GPU; gpu-0 has 0, and 4Gi once default/a-0 (Normal) ends",
        }
    ]

    assert main(["plan", "-f", path, "--gpu", "12Gi"]) == 1
    assert "  a-3 and 999996 more  needs 4Gi on one GPU; gpu-0 has 0, " in capsys.readouterr().out


def test_more_pods_than_anybody_plans_is_a_sentence(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = inline(vram_full="1Mi", vram_floor="1Mi")
    path = write(workload("Deployment", "a", tiny, replicas=10**12))
    nodes = [f"node-{number}={','.join(['1Gi'] * 8)}" for number in range(MOST_PODS // 80)]
    assert main(["plan", "-f", path, "--unit", "1Mi", "--node", *nodes]) == 2
    assert capsys.readouterr().err == (
        f"arbiter plan: more than {MOST_PODS} pods find room; plan for fewer replicas or GPUs.\n"
    )


def test_pods_go_where_least_quality_is_lost_on_several_nodes(
    write: Write, planned: Callable[..., dict[str, Any]]
) -> None:
    objects = write(
        workload("Deployment", "chat", inline(), replicas=3),
        workload("DaemonSet", "watch", inline(vram_full="2Gi", vram_floor="1Gi")),
        pod("wide", inline(gpu_count="2", vram_full="20Gi", vram_floor="15Gi")),
    )
    answer = planned(objects, "--node", "small=12Gi", "--node", "large=24Gi,24Gi")

    assert [gpu["name"] for gpu in answer["gpus"]] == ["small/0", "large/0", "large/1"]
    assert [gpu["capacityBytes"] // GIB for gpu in answer["gpus"]] == [12, 24, 24]
    placed: dict[str, list[str]] = {}
    for gpu in answer["gpus"]:
        for member in gpu["members"]:
            placed.setdefault(member["name"], []).append(gpu["name"])
    assert placed["wide"] == ["large/0", "large/1"]
    assert placed["watch-0"] == ["small/0"]
    assert len(placed["watch-1"]) == 1
    assert placed["watch-1"][0].startswith("large/")
    assert sorted(placed) == ["chat-0", "chat-1", "chat-2", "watch-0", "watch-1", "wide"]
    assert (answer["unplaced"], answer["code"]) == ([], 0)


def test_each_node_has_prices_of_its_own(write: Write, planned: Callable[..., dict[str, Any]]) -> None:
    together = planned(CHAT, POSTERS, "--node", "a=12Gi")
    apart = planned(CHAT, POSTERS, "--node", "a=12Gi", "b=12Gi")
    assert [round(gpu["price"], 3) for gpu in together["gpus"]] == [0.356]
    assert [gpu["price"] for gpu in apart["gpus"]] == [-1, -1]


def test_a_demand_with_levels_stands_on_one_of_them(write: Write, planned: Callable[..., dict[str, Any]]) -> None:
    vram = {"full": "10Gi", "floor": "4Gi", "levels": [{"quality": 0.7, "vram": "7Gi"}]}
    stepped = allocation(vram=vram, quality={"minimum": 0.4})
    answer = planned(
        write(stepped, workload("Deployment", "a", template(allocation="chat"), replicas=4)), "--gpu", "27Gi"
    )
    assert [(m["quality"], m["vramBytes"] // GIB) for m in answer["gpus"][0]["members"]] == [
        (0.4, 4),
        (0.7, 7),
        (0.7, 7),
        (0.7, 7),
    ]
    assert (answer["gpus"][0]["price"], answer["gpus"][0]["usedBytes"]) == (0.6, 25 * GIB)


def test_headroom_that_the_policy_keeps_is_told(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    kept = write(policy(pressureThreshold=0.85), name="policy.yaml")
    assert main(["plan", "-f", kept, CHAT, POSTERS, "--gpu", "12Gi"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == (
        "gpu-0: full sizes add up to 16.0 GiB, 12.00 are usable, 0.93 are kept as headroom. "
        "Price 0.483 (High), mode Adaptive."
    )


def test_no_headroom_is_told_where_nobody_gives_way(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    kept = write(policy(pressureThreshold=0.85), name="policy.yaml")
    assert main(["plan", "-f", kept, CHAT, "--gpu", "12Gi"]) == 0
    assert "headroom" not in capsys.readouterr().out


def test_a_member_of_several_gpus_names_the_others(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-f", write(pod("wide", inline(gpu_count="2"))), "--node", "a=12Gi,12Gi"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("  wide")] == [
        "  wide  Normal      floor  4.0  full 10.0  has 10.00 GiB  1.000  also on a/1",
        "  wide  Normal      floor  4.0  full 10.0  has 10.00 GiB  1.000  also on a/0",
    ]


def test_a_policy_for_labelled_nodes_is_left_out_with_a_warning(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(policy("fast", nodeSelector={"gpu": "h100"}, mode="LlmFirst"), pod("a", inline()))
    assert main(["plan", "-f", path]) == 0
    told = capsys.readouterr()
    assert "mode Adaptive" in told.out
    assert told.err == (
        "Warning: QualityPolicy fast is for labelled nodes, and a plan's have no labels; it was left out.\n"
    )


def test_a_smaller_unit_makes_room(write: Write, planned: Callable[..., dict[str, Any]]) -> None:
    floors = write(pod("x", inline(vram_floor="1500Mi")), pod("y", inline(vram_floor="1500Mi")))
    assert planned(floors, "--gpu", "3Gi", "--unit", "256Mi")["unplaced"] == []


def test_members_of_one_name_are_told_apart(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-f", write(allocation(), allocation(namespace="other")), "--gpu", "24Gi"]) == 0
    shown = capsys.readouterr().out
    assert "  default/chat  Normal" in shown
    assert "  other/chat    Normal" in shown


def test_nothing_asks_for_memory(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-f", write({"kind": "Service", "metadata": {"name": "s"}})]) == 0
    assert "Nothing in these manifests asks for GPU memory." in capsys.readouterr().out


def test_what_admission_would_warn_of_is_told(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(pod("a", inline(quality_target="0.9")))
    assert main(["plan", "-f", path]) == 0
    assert capsys.readouterr().err == (
        f"Warning: {path}: pod default/a: arbiter.infernum.io/quality-target is written by Arbiter and was left out; "
        "to ask for a minimum write arbiter.infernum.io/quality-minimum.\n"
    )


def test_manifests_from_stdin(monkeypatch: pytest.MonkeyPatch, planned: Callable[..., dict[str, Any]]) -> None:
    with Path(CHAT).open() as chat:
        monkeypatch.setattr(sys, "stdin", chat)
        assert names(planned("-")) == [["chat"]]
