"""`arbiter plan` on real manifests: what they would get, what has no room, and what is refused with which sentence."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arbiter.units import GIB, MIB
from arbiter_cli.errors import InputError
from arbiter_cli.main import main
from arbiter_cli.manifests import read_manifests
from arbiter_cli.planning import request_of

EXAMPLES = Path(__file__).parents[3] / "examples"
CHAT, POSTERS = str(EXAMPLES / "chat.yaml"), str(EXAMPLES / "posters.yaml")

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes objects (or text) to a file and gives its name."""

    def written(*objects: object, name: str = "m.yaml") -> str:
        path = tmp_path / name
        text = objects[0] if isinstance(objects[0], str) else yaml.safe_dump_all(objects)
        path.write_text(str(text))
        return str(path)

    return written


@pytest.fixture
def planned(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Runs `plan -o json` and gives its answer, with the exit code under "code"."""

    def run(*arguments: str) -> dict[str, Any]:
        code = main(["plan", "-o", "json", "-f", *arguments])
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer | {"code": code}

    return run


def allocation(name: str = "chat", namespace: str = "default", **spec: object) -> dict[str, Any]:
    sizes = {"full": "10Gi", "floor": "4Gi"}
    return {
        "apiVersion": "arbiter.infernum.io/v1alpha1",
        "kind": "GpuAllocation",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"workloadType": "LlmInference", "vram": sizes} | spec,
    }


def template(limits: dict[str, object] | None = None, **annotations: object) -> dict[str, Any]:
    """Annotations by their names without prefix, `_` for `-`."""
    named = {f"arbiter.infernum.io/{name.replace('_', '-')}": value for name, value in annotations.items()}
    resources = {"resources": {"limits": limits}} if limits else {}
    return {"metadata": {"annotations": named}, "spec": {"containers": [{"name": "engine", **resources}]}}


def workload(kind: str, name: str, pods: dict[str, Any], **spec: object) -> dict[str, Any]:
    return {"apiVersion": "x/v1", "kind": kind, "metadata": {"name": name}, "spec": {"template": pods, **spec}}


def pod(name: str, pods: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, **pods["metadata"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pods["spec"]}


def inline(**annotations: object) -> dict[str, Any]:
    defaults = {"workload_type": "LlmInference", "vram_full": "10Gi", "vram_floor": "4Gi"}
    return template(None, **{**defaults, **annotations})


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
        "  render-0  needs 10Gi on one GPU; gpu-0 has 6Gi\n"
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
    policy = {
        "apiVersion": "arbiter.infernum.io/v1alpha1",
        "kind": "QualityPolicy",
        "metadata": {"name": "default"},
        "spec": spec,
    }
    posters = yaml.safe_load_all(Path(POSTERS).read_text())
    answer = planned(write(policy, *yaml.safe_load_all(Path(CHAT).read_text()), *posters))
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
        ["12Gi", "24Gi"],
        "needs 30Gi on one GPU; the largest has 24Gi",
    ),
    "floors that are already there": (
        [pod("x", inline()), pod("y", inline()), pod("a", inline(vram_floor="5Gi"))],
        ["12Gi"],
        "needs 5Gi on one GPU; gpu-0 has 4Gi",
    ),
    "more GPUs than there are": (
        [pod("a", inline(gpu_count="2"))],
        ["12Gi"],
        "needs 4Gi on each of 2 GPUs of a node; there is room on 1 of 1",
    ),
    "floors in whole units": (
        [pod("x", inline(vram_floor="1500Mi")), pod("a", inline(vram_floor="1500Mi"))],
        ["3Gi"],
        "needs 1500Mi (2Gi in whole units) on one GPU; gpu-0 has 1Gi",
    ),
}


@pytest.mark.parametrize(("objects", "sizes", "reason"), UNPLACED.values(), ids=UNPLACED.keys())
def test_what_has_no_room_says_why_and_the_answer_is_no(
    objects: list[dict[str, Any]],
    sizes: list[str],
    reason: str,
    write: Write,
    planned: Callable[..., dict[str, Any]],
) -> None:
    answer = planned(write(*objects), "--gpu", *sizes)
    assert answer["unplaced"] == [{"namespace": "default", "name": "a", "reason": reason}]
    assert answer["code"] == 1


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


A = "arbiter.infernum.io"

REFUSED: dict[str, tuple[list[object], str]] = {
    "a floor above full, inline": (
        [pod("chat", inline(vram_floor="12Gi"))],
        f": pod default/chat: floor 12Gi is larger than full 10Gi; lower {A}/vram-floor or raise {A}/vram-full.",
    ),
    "a floor above full, in an unused allocation": (
        [allocation(vram={"full": "10Gi", "floor": "12Gi"})],
        ": GpuAllocation default/chat: floor 12Gi is larger than full 10Gi; "
        "lower spec.vram.floor or raise spec.vram.full.",
    ),
    "an unknown type, inline": (
        [pod("chat", inline(workload_type="Llm"))],
        f': pod default/chat: {A}/workload-type "Llm" is unknown; '
        "write one of LlmInference, ImageGeneration, VideoGeneration.",
    ),
    "an unknown type in an allocation": (
        [allocation(workloadType="Llm")],
        ': GpuAllocation default/chat: spec.workloadType "Llm" cannot be: '
        "it should be 'LlmInference', 'ImageGeneration' or 'VideoGeneration'.",
    ),
    "no type": (
        [allocation(workloadType=None)],
        ": GpuAllocation default/chat: spec.workloadType is missing.",
    ),
    "a vram of ten, inline": (
        [pod("chat", inline(vram_full="ten"))],
        f': pod default/chat: {A}/vram-full: "ten" is no size; write a number with a unit, such as 10Gi or 1843Mi.',
    ),
    "a vram of ten in an allocation": (
        [allocation(vram={"full": "ten"})],
        ': GpuAllocation default/chat: spec.vram.full: "ten" is no size; '
        "write a number with a unit, such as 10Gi or 1843Mi.",
    ),
    "an allocation that does not exist": (
        [allocation(), pod("chat", template(allocation="caht"))],
        ': pod default/chat: no GpuAllocation "caht" in namespace default; apply it first. Nearest name: "chat".',
    ),
    "an annotation that is no text": (
        [pod("chat", inline(gpu_count=2))],
        f': Pod default/chat: annotation {A}/gpu-count must be text; write "2" in quotes.',
    ),
    "an unknown version": (
        [{**allocation(), "apiVersion": f"{A}/v1"}],
        f': GpuAllocation default/chat: apiVersion "{A}/v1" is unknown; write {A}/v1alpha1.',
    ),
    "replicas that are no number": (
        [workload("Deployment", "chat", inline(), replicas="two")],
        ': Deployment default/chat: spec.replicas "two" is no count; write a whole number.',
    ),
    "a minimum that no exact number should hold": (
        [pod("chat", inline(quality_minimum="1e99999999"))],
        f': pod default/chat: {A}/quality-minimum "1e99999999" is no number; write for example 0.5.',
    ),
    "a GPU count of thousands of digits": (
        [pod("chat", inline(gpu_count="9" * 5000))],
        f': pod default/chat: {A}/gpu-count "{"9" * 5000}" is no whole number; write for example 2.',
    ),
    "a size with a line break": (
        [pod("chat", inline(vram_full="10\nGi"))],
        f': pod default/chat: {A}/vram-full: "10 Gi" is no size; write a number with a unit, such as 10Gi or 1843Mi.',
    ),
    "no YAML": (["a: [1\nb: 2\n"], ", line 2: is no YAML: expected ',' or ']', but got ':'."),
    "YAML that holds itself": (["&a [*a]"], ": is no YAML: maximum recursion depth exceeded."),
    "no objects": (["just words"], ": a document has no kind; write Kubernetes objects, parted by lines of ---."),
    "no name": ([{"kind": "Pod", "metadata": {}}], ": Pod has no metadata.name; write one."),
}


@pytest.mark.parametrize(("objects", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_input_is_one_sentence_and_exit_code_2(
    objects: list[object], sentence: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(*objects)
    assert main(["plan", "-f", path]) == 2
    assert capsys.readouterr() == ("", f"arbiter plan: {path}{sentence}\n")


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-f", "nowhere.yaml"]) == 2
    assert capsys.readouterr().err == "arbiter plan: nowhere.yaml: cannot be read: No such file or directory.\n"


def test_a_directory_without_manifests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-f", str(tmp_path)]) == 2
    assert "no YAML or JSON file is there" in capsys.readouterr().err


def test_manifests_from_stdin(monkeypatch: pytest.MonkeyPatch, planned: Callable[..., dict[str, Any]]) -> None:
    with Path(CHAT).open() as chat:
        monkeypatch.setattr(sys, "stdin", chat)
        assert names(planned("-")) == [["chat"]]


scalars = st.none() | st.booleans() | st.integers(-3, 40) | st.floats(allow_nan=True) | st.sampled_from(["", "x", "2"])
junk = st.recursive(scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(scalars, inner, max_size=2))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_no_nonsense_ends_in_a_traceback(data: st.DataObject, tmp_path: Path) -> None:
    """One part of a good manifest is replaced by junk: it is planned or refused."""
    document = data.draw(
        st.sampled_from(
            [
                lambda: allocation(quality={"minimum": 0.5}, shrinkGrace="5s", gpuCount=1),
                lambda: workload("Deployment", "a", inline(), replicas=2),
                lambda: workload("Job", "a", template({f"{A}/vram": "3"}), parallelism=2, completions=2),
                lambda: pod("a", inline(gpu_count="1", quality_minimum="0.5", priority="High")),
            ]
        )
    )()
    place: Any = document
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            place[key] = data.draw(junk)
            break
        place = place[key]
    path = tmp_path / "m.yaml"
    path.write_text(yaml.safe_dump(document))
    with suppress(InputError):
        request_of(read_manifests([str(path)]), unit=GIB, mode=None)
