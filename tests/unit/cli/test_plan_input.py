"""How `arbiter plan` reads manifests, and with which sentence it refuses what the cluster would refuse."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arbiter.ids import GpuUuid, NodeName
from arbiter.units import GIB
from arbiter_cli.errors import InputError
from arbiter_cli.groups import request_of
from arbiter_cli.main import main
from arbiter_cli.manifests import read_manifests
from arbiter_cli.planning import Node, plan
from tests.unit.cli.builders import A, Write, allocation, capped, inline, pod, policy, template, workload

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
    "YAML that holds itself": (["&a [*a]"], ": is no YAML: it holds itself, or nests too deep."),
    "a field that is none": (
        [allocation(vram={"full": "10Gi", "flor": "4Gi"})],
        ": GpuAllocation default/chat: spec.vram.flor is no field; arbiter crds prints those that are.",
    ),
    "a field in a list that is none": (
        [allocation(vram={"levels": [{"quality": 0.7, "vram": "7Gi", "steps": 20}]})],
        ": GpuAllocation default/chat: spec.vram.levels.0.steps is no field; arbiter crds prints those that are.",
    ),
    "text for a number": (
        [allocation(gpuCount="2")],
        ': GpuAllocation default/chat: spec.gpuCount "2" cannot be: it should be a valid integer.',
    ),
    "levels that do not rise": (
        [
            allocation(
                vram={"full": "10Gi", "floor": "4Gi", "levels": [{"quality": 0.7, "vram": "3Gi"}]},
                quality={"minimum": 0.4},
            )
        ],
        ": GpuAllocation default/chat: spec.vram.levels must rise from quality 0.400 at 4Gi to 1.000 at 10Gi; "
        "0.700 at 3Gi follows 0.400 at 4Gi.",
    ),
    "a policy for some nodes that says what is needed before a node is known": (
        [policy("fast", nodeSelector={"gpu": "h100"}, minimumQuality={"llm": 0.5})],
        ": QualityPolicy fast: spec.minimumQuality is needed before a pod's node is known: "
        "write it in a policy without a nodeSelector.",
    ),
    "a threshold above 1": (
        [policy(pressureThreshold=1.5)],
        ': QualityPolicy default: spec.pressureThreshold "1.5" cannot be: it should be less than or equal to 1.',
    ),
    "a name that the API server would not take": (
        [allocation("Chat")],
        ': GpuAllocation default/Chat: metadata.name "Chat" is no name; write lower-case letters, digits, "-" and ".".',
    ),
    "replicas that are yes": (
        [workload("Deployment", "chat", inline(), replicas=True)],
        ': Deployment default/chat: spec.replicas "True" is no count; write a whole number.',
    ),
    "fewer than no pods": (
        [workload("Job", "chat", inline(), parallelism=-1)],
        ': Job default/chat: spec.parallelism "-1" is no count; write a whole number.',
    ),
    "a priority above its namespace's": (
        [capped("default", "Low"), allocation(), pod("chat", template(allocation="chat"))],
        ": Pod default/chat: priority Normal is above Low, the highest of namespace default; "
        f"ask for less, or have its label {A}/max-priority raised.",
    ),
    "a cap that is no priority": (
        [capped("team-a", "low")],
        f': Namespace team-a: label {A}/max-priority "low" is no priority; '
        "write one of Background, Low, Normal, High, Critical.",
    ),
    "a mistake inside a list": (
        [{"kind": "List", "items": [pod("fine", inline()), pod("chat", inline(vram_full="ten"))]}],
        f': pod default/chat: {A}/vram-full: "ten" is no size; write a number with a unit, such as 10Gi or 1843Mi.',
    ),
    "a list of no objects": (
        [{"kind": "List", "items": ["words"]}],
        ": a document has no kind; write Kubernetes objects, parted by lines of ---.",
    ),
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


def test_what_is_no_yaml_is_told_with_its_line(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write("a: [1\nb: 2\n")
    assert main(["plan", "-f", path]) == 2
    # What is wrong there is said by libyaml in other words than by PyYAML itself.
    assert capsys.readouterr().err.startswith(f"arbiter plan: {path}, line 2: is no YAML: ")


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-f", "nowhere.yaml"]) == 2
    assert capsys.readouterr().err == "arbiter plan: nowhere.yaml: cannot be read: No such file or directory.\n"


def test_a_directory_without_manifests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-f", str(tmp_path)]) == 2
    assert "no YAML or JSON file is there" in capsys.readouterr().err


USAGE = {
    "a node without a name": (
        ["--node", "12Gi"],
        '"12Gi" is no node; write its name and GPUs, such as gpu-1=12Gi,24Gi',
    ),
    "a priority that is none": (
        ["--max-priority", "Middling"],
        '"Middling" is unknown; write one of Background, Low, Normal, High, Critical',
    ),
    "a node without GPUs": (["--node", "a="], '"" is no size; write a number with a unit, such as 10Gi or 1843Mi'),
    "a GPU of no size": (["--gpu", "12Gi,0"], '"0" is no memory; write a size such as 12Gi'),
    "a mode that is none": (
        ["--mode", "Fast"],
        '"Fast" is unknown; write one of Adaptive, LlmFirst, DiffusionFirst, Balanced, Fixed',
    ),
    "both kinds of hardware": (["--gpu", "12Gi", "--node", "a=12Gi"], "not allowed with argument --gpu"),
}


@pytest.mark.parametrize(("arguments", "sentence"), USAGE.values(), ids=USAGE.keys())
def test_bad_usage_is_one_line_and_exit_code_2(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan", "-f", "m.yaml", *arguments])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("arbiter plan: argument --")
    assert told.endswith(f": {sentence}; see arbiter plan --help\n")
    assert told.count("\n") == 1


def test_the_charts_cap_holds_in_namespaces_without_their_own(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    manifests = write(capped("default", "High"), pod("a", inline(priority="High")))
    assert main(["plan", "-f", manifests, "--max-priority", "Low"]) == 0
    manifests = write(allocation())
    assert main(["plan", "-f", manifests, "--max-priority", "Normal"]) == 0
    assert main(["plan", "-f", manifests, "--max-priority", "Low"]) == 2
    assert capsys.readouterr().err.endswith(
        ": GpuAllocation default/chat: priority Normal is above Low, the highest of namespace default; "
        f"ask for less, or have its label {A}/max-priority raised.\n"
    )


def test_a_node_that_is_there_twice(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-f", "m.yaml", "--node", "a=12Gi", "--node", "a=24Gi"]) == 2
    assert capsys.readouterr().err == (
        'arbiter plan: node "a" is there twice; write all of its GPUs at once: --node a=12Gi,24Gi.\n'
    )


def test_yaml_that_means_a_billion_things_is_read_at_once(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]"
        for before, name in zip("abcdefghi", "bcdefghij", strict=True)
    ]
    assert main(["plan", "-f", write("\n".join(["kind: Service", "metadata: {name: s}", *lines]))]) == 0
    assert "Nothing in these manifests" in capsys.readouterr().out


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
                lambda: policy(pressureThreshold=0.5, minimumQuality={"llm": 0.5}),
                lambda: {"kind": "List", "items": [allocation(vram={"levels": [{"quality": 0.7, "vram": "6Gi"}]})]},
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
    node = Node(name=NodeName("node"), gpus={GpuUuid("gpu-0"): 24 * GIB})
    with suppress(InputError):
        plan(request_of(read_manifests([str(path)]), unit=GIB, mode=None), [node], unit=GIB)
