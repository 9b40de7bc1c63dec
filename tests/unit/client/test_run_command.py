"""What a target means for an engine, down to its argument list."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from arbiter.client import QualityTarget
from arbiter.run.command import Recipe, parse_choice
from arbiter.run.errors import RunError
from arbiter.run.options import parse
from arbiter.run.readiness import Readiness
from arbiter.run.tables import COMFYUI, DIFFUSERS, PLAIN, VLLM, recognise
from arbiter.units import GIB

EXAMPLES = Path(__file__).parents[3] / "examples" / "engines"

TARGET = QualityTarget(
    quality=0.904,
    target=0.904,
    minimum=0.4,
    vram_bytes=9 * GIB,
    gpu_fraction=0.75,
    gpus=("GPU-0",),
    pressure="High",
    mode="Adaptive",
    revision=3,
    reason="",
    directory=Path("/run/arbiter"),
)
HALF = replace(TARGET, quality=0.6)
LEAST = replace(TARGET, quality=0.4, vram_bytes=4 * GIB, gpu_fraction=0.3333)
PAIR = replace(TARGET, gpus=("GPU-0", "GPU-1"))


@pytest.fixture(autouse=True)
def every_program_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "absent" else name)
    monkeypatch.delenv("VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS", raising=False)


@pytest.mark.parametrize(
    ("line", "target", "arguments"),
    [
        pytest.param(
            "vllm serve org/7b",
            TARGET,
            "vllm serve org/7b --gpu-memory-utilization=0.7500 --tensor-parallel-size=1 --max-model-len=auto",
            id="vLLM gets its share of the device and the context that fits",
        ),
        pytest.param(
            "python3 -m vllm.entrypoints.openai.api_server --model org/7b",
            PAIR,
            "python3 -m vllm.entrypoints.openai.api_server --model org/7b "
            "--gpu-memory-utilization=0.7500 --tensor-parallel-size=2 --max-model-len=auto",
            id="on two GPUs vLLM splits the model in two",
        ),
        pytest.param(
            "vllm serve org/7b -tp 1 --max_model_len 8192",
            PAIR,
            "vllm serve org/7b -tp 1 --max_model_len 8192 --gpu-memory-utilization=0.7500",
            id="what a command says itself stays, in any spelling",
        ),
        pytest.param(
            "--set --max-model-len=4096 vllm serve org/7b",
            TARGET,
            "vllm serve org/7b --gpu-memory-utilization=0.7500 --tensor-parallel-size=1 --max-model-len=4096",
            id="an argument of one's own replaces the table's",
        ),
        pytest.param(
            "--headroom 1Gi vllm serve org/7b",
            TARGET,
            "vllm serve org/7b --gpu-memory-utilization=0.6666 --tensor-parallel-size=1 --max-model-len=auto",
            id="headroom comes off the share, rounded down",
        ),
        pytest.param(
            "python3 /opt/ComfyUI/main.py --listen",
            TARGET,
            "python3 /opt/ComfyUI/main.py --listen --reserve-vram=3.00",
            id="ComfyUI reserves what the target leaves of the device",
        ),
        pytest.param(
            "--engine diffusers python3 draw.py",
            TARGET,
            "python3 draw.py --memory-fraction=0.7083 --offload=model",
            id="a diffusers script offloads below full quality, and leaves room for its context",
        ),
        pytest.param(
            "--engine diffusers --choose offload=none:0.6,sequential:0 python3 draw.py",
            HALF,
            "python3 draw.py --memory-fraction=0.7083 --offload=none",
            id="a choice by quality of one's own replaces the table's",
        ),
        pytest.param(
            "--engine diffusers python3 draw.py",
            LEAST,
            "python3 draw.py --memory-fraction=0.2916 --offload=sequential",
            id="at its floor a diffusers script offloads layer by layer",
        ),
        pytest.param(
            "--set={quality}/{vram_bytes}/{vram_mib}/{vram_gib}/{gpu_count}/{gpus}/{pressure} -- serve -- --set=x",
            PAIR,
            "serve -- --set=x 0.904/9663676416/9216/9.00/2/GPU-0,GPU-1/High",
            id="each number has a name, and what follows the engine is the engine's",
        ),
        pytest.param(
            '--set --json={"share":{gpu_fraction}} serve',
            TARGET,
            'serve --json={"share":0.7500}',
            id="braces around anything else stay",
        ),
    ],
)
def test_arguments(line: str, target: QualityTarget, arguments: str) -> None:
    orders, _ = parse(line.split())

    assert orders.recipe.at(target).arguments == tuple(arguments.split())


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("", "no engine to run; write its command after the options, such as arbiter-run vllm serve MODEL"),
        ("absent", "absent is no program in this image; write the engine's command after the options"),
        (
            "vllm serve m --gpu-memory-utilization=0.9",
            "--gpu-memory-utilization is set from the target; leave it out of the command",
        ),
        (
            "serve --port 80",
            "nothing in the command depends on the target; name the kind of engine with --engine, or write for example "
            "--set '--memory-fraction={gpu_fraction}'",
        ),
        (
            "--set --gpus={gpu_count} serve",
            "nothing in the command depends on the target; name the kind of engine with --engine, or write for example "
            "--set '--memory-fraction={gpu_fraction}'",
        ),
        (
            "--set --x={vram} serve",
            "{vram} stands for nothing; write one of gpu_count, gpu_fraction, gpus, pressure, quality, reserve_gib, "
            "vram_bytes, vram_gib, vram_mib",
        ),
        (
            "--choose offload=none:1 --set {offload} serve",
            '"offload=none:1" is no choice by quality that ends at 0; write for example --choose '
            "offload=none:1,model:0.5,sequential:0",
        ),
        ("--env SHARE serve", '"SHARE" is no variable; write for example --env SHARE={gpu_fraction}'),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(line: str, sentence: str) -> None:
    with pytest.raises(RunError) as refusal:
        parse(line.split())

    assert str(refusal.value) == sentence


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--grace soon serve", 'argument --grace: "soon" is no time; write for example 90s or 5m'),
        ("--headroom 512 serve", 'argument --headroom: "512" is no size; write for example 512Mi'),
        ("--drain-signal STOPP serve", 'argument --drain-signal: "STOPP" is no signal; write for example TERM or INT'),
        ("--ready-port 0 serve", 'argument --ready-port: "0" is no port; write for example 8000'),
        (
            "--ready-url localhost:8000 serve",
            'argument --ready-url: "localhost:8000" is no address to ask; write for example --ready-url '
            "http://127.0.0.1:8000/health",
        ),
        ("--ready-port 1 --ready-log x serve", "argument --ready-log: not allowed with argument --ready-port"),
    ],
)
def test_an_option_that_makes_no_sense_ends_it(line: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(line.split())

    assert end.value.code == 2
    assert capsys.readouterr().err == f"arbiter-run: {sentence}; see arbiter-run --help.\n"


def test_headroom_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(RunError, match=r"^--headroom leaves nothing of the target's 9216Mi; write a smaller one"):
        Recipe(command=("serve",), table=VLLM, headroom=9 * GIB).at(TARGET)


def test_a_variable_of_the_container_stays_and_one_of_the_command_line_goes_over_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    estimate = "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS"
    alone, _ = parse(["--env", "SHARE={gpu_fraction}", "vllm", "serve"])
    monkeypatch.setenv(estimate, "0")
    beside, _ = parse(["--env", "SHARE={gpu_fraction}", "vllm", "serve"])

    assert alone.recipe.at(TARGET).environment == (("SHARE", "0.7500"), (estimate, "1"))
    assert beside.recipe.at(TARGET).environment == (("SHARE", "0.7500"),)


@pytest.mark.parametrize(
    ("line", "readiness"),
    [
        ("vllm serve m", Readiness(url="http://127.0.0.1:8000/health")),
        ("vllm serve m --port 9000", Readiness(url="http://127.0.0.1:9000/health")),
        ("vllm serve m --port=9001", Readiness(url="http://127.0.0.1:9001/health")),
        ("--ready-port 7000 vllm serve m", Readiness(port=7000)),
        ("--ready-after 2m vllm serve m", Readiness(after=120.0)),
        ("python3 ComfyUI/main.py", Readiness(url="http://127.0.0.1:8188/system_stats")),
        ("--set {quality} serve", Readiness()),
    ],
)
def test_how_an_engine_shows_that_it_is_up(line: str, readiness: Readiness) -> None:
    orders, _ = parse(line.split())

    assert orders.readiness == readiness


@pytest.mark.parametrize(
    ("command", "table"),
    [
        ("/usr/bin/vllm serve m", VLLM),
        ("python main.py", PLAIN),
        ("python /srv/comfyui/main.py", COMFYUI),
        ("python draw.py vllm", PLAIN),
    ],
)
def test_an_engine_is_told_by_its_command(command: str, table: object) -> None:
    assert recognise(command.split()) is table


def test_a_choice_takes_the_first_value_that_the_quality_reaches() -> None:
    choice = parse_choice(f"offload={DIFFUSERS.choices[0][1]}")

    assert [choice.value(quality) for quality in (1.0, 0.999, 0.5, 0.499, 0.0)] == [
        "none",
        "model",
        "model",
        "sequential",
        "sequential",
    ]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        (
            "vllm",
            "vllm serve org/8b-instruct --gpu-memory-utilization=0.7291 --tensor-parallel-size=1 --max-model-len=auto",
        ),
        ("comfyui", "python3 /opt/ComfyUI/main.py --listen --reserve-vram=3.00"),
        ("diffusers", "python3 draw.py --memory-fraction=0.7083 --offload=model"),
    ],
)
def test_the_examples_ask_for_what_their_engines_take(name: str, arguments: str) -> None:
    manifest = (EXAMPLES / f"{name}.yaml").read_text()
    deployment = next(each for each in yaml.safe_load_all(manifest) if each["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    line: list[str] = [*container["command"], *container.get("args", ())]

    orders, _ = parse(line[1:])

    assert line[0] == "/run/arbiter/bin/arbiter-run"
    assert orders.recipe.at(TARGET).arguments == tuple(arguments.split())


def test_the_example_script_knows_the_flags_that_it_is_given() -> None:
    script = (EXAMPLES / "draw.py").read_text()

    assert [f'"{row.flag}"' in script for row in DIFFUSERS.rows] == [True, True]
