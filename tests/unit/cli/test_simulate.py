"""What `arbiter simulate` prints of small traces, draws, and says to files that it cannot use."""

import gc
import gzip
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from arbiter_cli.main import main

NODES = """sn,cpu_milli,memory_mib,gpu,model
n-0,64000,262144,2,T4
n-1,64000,262144,2,P100
"""
HEADER = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
PODS = HEADER + "p-1,1000,1024,1,1000,\np-0,1000,1024,1,1000,T4|P100\n"
SHARES = HEADER + "p-0,1000,1024,1,800,\n"

Trace = Callable[..., str]


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    """Writes a trace, by default beside a list of nodes, and gives its name."""

    def written(pods: str = PODS, *, nodes: str | None = NODES, name: str = "openb_pods.csv") -> str:
        if nodes is not None:
            (tmp_path / "openb_node_list.csv").write_text(nodes)
        path = tmp_path / name
        path.write_bytes(gzip.compress(pods.encode()) if path.suffix == ".gz" else pods.encode())
        return str(path)

    return written


def test_a_table_for_people(trace: Trace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", trace(), "--placement", "best-fit", "--seeds", "2", "--jobs", "1"]) == 0
    out, err = capsys.readouterr()
    head, row, about = out.splitlines()
    assert head.split() == ["TRACE", "PLACEMENT", "ALLOCATED", "ADMITTED", "QUALITY", "REJECTED", "DECISIONS/S"]
    assert row.split()[:-1] == ["openb_pods", "best-fit", "100.00", "±", "0.00", "100.00", "1.000", "0"]
    assert int(row.split()[-1]) > 0
    assert about == (
        "Percent of 4 GPUs on 2 nodes when what pods asked for reached 100 percent; "
        "mean and standard deviation of 2 seeds."
    )
    assert err == ""


def test_json_for_machines(trace: Trace, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--placement", "ours", "--elastic", "0.6", "--until", "120", "--jobs", "1", "-o", "json"]
    assert main(["simulate", trace(SHARES), *arguments]) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result.pop("decisionsPerSecond") > 0
    # Six of 0.8 on four GPUs: two of them share two each, at 0.625.
    quality = pytest.approx((2 + 4 * 0.625) / 6)
    assert result == {
        "trace": "openb_pods",
        "placement": "ours",
        "allocatedPercent": 90.0,
        "allocatedDeviation": 0.0,
        "admittedPercent": 120.0,
        "meanQuality": quality,
        "seeds": [
            {
                "seed": 42,
                "allocatedPercent": 90.0,
                "admittedPercent": 120.0,
                "meanQuality": quality,
                "placed": 6,
                "rejected": 0,
            }
        ],
    }


def test_every_placement_and_trace_by_default_in_several_processes(
    trace: Trace, capsys: pytest.CaptureFixture[str]
) -> None:
    traces = [trace(), trace(SHARES, name="shares.csv.gz")]
    assert main(["simulate", *traces, "-o", "json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [(result["trace"], result["placement"]) for result in results] == [
        (name, rule) for name in ("openb_pods", "shares") for rule in ("ours", "fgd", "best-fit", "random")
    ]


def test_a_terminal_sees_how_far_it_is_and_a_pipe_the_answer_alone(trace: Trace) -> None:
    terminal, end = pty.openpty()
    command = [
        str(Path(sys.executable).with_name("arbiter")),
        "simulate",
        trace(),
        "--placement",
        "ours",
        "--jobs",
        "1",
    ]
    done = subprocess.run(
        [*command, "-o", "json"], stdout=subprocess.PIPE, stderr=end, env={**os.environ, "TERM": "xterm"}, check=True
    )
    os.close(end)
    seen = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    assert "simulating" in seen
    assert "0/1" in seen
    assert len(json.loads(done.stdout)["results"]) == 1


def test_nodes_from_another_file(trace: Trace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.csv").write_text("sn,cpu_milli,memory_mib,gpu,model\nn,64000,262144,8,T4\n")
    arguments = ["--nodes", str(tmp_path / "one.csv"), "--placement", "ours", "--jobs", "1"]
    assert main(["simulate", trace(), *arguments]) == 0
    assert "Percent of 8 GPUs on 1 nodes" in capsys.readouterr().out


def test_a_drawing_has_a_curve_for_each_placement(trace: Trace, tmp_path: Path) -> None:
    plots = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for plot in plots:
        assert main(["simulate", trace(), "--placement", "ours,random", "--jobs", "1", "--plot", str(plot)]) == 0

    text = plots[0].read_text()
    assert text.startswith("<?xml")
    assert text.endswith("</svg>\n")
    assert all(name in text for name in ("ours", "random", "openb_pods"))
    assert text == plots[1].read_text()


def test_a_drawing_without_matplotlib_says_how_to_get_it(
    trace: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "arbiter_cli.plots", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["simulate", trace(), "--plot", str(tmp_path / "x.svg")]) == 2
    assert capsys.readouterr().err == (
        "arbiter simulate: matplotlib draws --plot and is not installed; run pip install 'arbiter[plot]'.\n"
    )


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Whoever started the tests may have had them ignore interrupts, as shells do in the background.

    And Python loses one that comes while the garbage collector calls back, which hypothesis lets it do.
    """
    gc.disable()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
    gc.enable()


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_it_without_a_word(trace: Trace, capsys: pytest.CaptureFixture[str]) -> None:
    path = trace(HEADER + "p-0,1,1,1,1,\n")  # forty thousand of these arrive, a thousand times
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    assert main(["simulate", path, "--seeds", "1000", "--until", "1000", "--jobs", "1"]) == 130
    assert capsys.readouterr() == ("", "")
    timer.join()


REFUSED = {
    "no lines": (HEADER, "{trace} has no lines below its header."),
    "another file": ("Dear reader,\nthis is a letter.\n", "{trace}, line 2: there is no num_gpu."),
    "no number": (
        HEADER + "p,1000,1024,one,1000,\n",
        '{trace}, line 2: num_gpu "one" is no whole number from 0 to 64.',
    ),
    "a number behind many noughts": (
        HEADER + "p,1000,1024,000000000000000000000065,1000,\n",
        '{trace}, line 2: num_gpu "000000000000000000000065" is no whole number from 0 to 64.',
    ),
    "a negative number": (
        HEADER + "p,-1,1024,1,1000,\n",
        '{trace}, line 2: cpu_milli "-1" is no whole number from 0 to 1000000000.',
    ),
    "more than a whole GPU": (
        HEADER + "p,1000,1024,1,1001,\n",
        '{trace}, line 2: gpu_milli "1001" is no whole number from 0 to 1000.',
    ),
    "a GPU of which nothing is asked for": (
        HEADER + "p,1000,1024,1,0,\n",
        "{trace}, line 2: gpu_milli is 0 although num_gpu is not; write thousandths of a GPU.",
    ),
    "parts of several GPUs": (
        HEADER + "p,1000,1024,2,500,\n",
        "{trace}, line 2: gpu_milli is 500 of several GPUs; parts are for one, write 1000.",
    ),
    "a short line": (HEADER + "p,1000\n", "{trace}, line 2: there is no num_gpu."),
    "nobody who needs GPUs": (HEADER + "p,1000,1024,0,0,\n", "there is nothing to simulate: no pod asks for a GPU."),
}


@pytest.mark.parametrize(("pods", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_a_trace_that_cannot_be_used_is_a_sentence(
    pods: str, sentence: str, trace: Trace, capsys: pytest.CaptureFixture[str]
) -> None:
    path = trace(pods)
    assert main(["simulate", path, "--jobs", "1"]) == 2
    assert capsys.readouterr() == ("", f"arbiter simulate: {sentence.format(trace=path)}\n")


def test_files_that_are_none_are_a_sentence(trace: Trace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, missing, damaged = trace(), tmp_path / "missing.csv", tmp_path / "damaged.csv.gz"
    damaged.write_bytes(gzip.compress(PODS.encode())[:-12])
    (tmp_path / "image.csv").write_bytes(b"\x89PNG\xff")
    (tmp_path / "twice.csv").write_text(NODES + "n-1,1,1,1,T4\n")
    for arguments, sentence in (
        ([str(missing)], f"{missing} cannot be read: No such file or directory."),
        ([str(tmp_path)], f"{tmp_path.parent} has no file of nodes (*node_list*.csv*); name it: --nodes FILE."),
        (
            [str(damaged)],
            f"{damaged} cannot be read: Compressed file ended before the end-of-stream marker was reached.",
        ),
        ([str(tmp_path / "image.csv")], f"{tmp_path / 'image.csv'} is not text of comma-separated values."),
        ([path, path], "traces need different names, and there is openb_pods twice; rename one."),
        (
            [path, "--nodes", str(tmp_path / "twice.csv")],
            f'{tmp_path / "twice.csv"}: node "n-1" is there twice; give each its own sn.',
        ),
        (
            [path, "--plot", "x.png"],
            "x.png is no place for a drawing; write a name that ends in .svg, in a folder that is there.",
        ),
    ):
        assert main(["simulate", *arguments]) == 2
        assert capsys.readouterr() == ("", f"arbiter simulate: {sentence}\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--elastic", "60%"], '--elastic: "60%" is no part of a size; write a number above 0 up to 1, such as 0.6'),
        (["--elastic", "0"], '--elastic: "0" is no part of a size; write a number above 0 up to 1, such as 0.6'),
        (
            ["--elastic", "0.3333"],
            '--elastic: "0.3333" is finer than thousandths; write three decimals, such as 0.333',
        ),
        (["--elastic", "1/3"], '--elastic: "1/3" is finer than thousandths; write three decimals, such as 0.333'),
        (
            ["--elastic", "1e-999999999"],
            '--elastic: "1e-999999999" is no part of a size; write a number above 0 up to 1, such as 0.6',
        ),
        (["--seeds", "00000001999"], '--seeds: "00000001999" is no whole number from 1 to 1000'),
        (["--seeds", "0"], '--seeds: "0" is no whole number from 1 to 1000'),
        (["--placement", "ours,worst"], '--placement: "worst" is unknown; write one of ours, fgd, best-fit, random'),
    ],
)
def test_bad_usage_is_a_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["simulate", "x.csv", *arguments])
    assert end.value.code == 2
    assert capsys.readouterr().err == f"arbiter simulate: argument {sentence}; see arbiter simulate --help\n"
