"""Every block of the pages is run, compared or checked by something; those that are not stand here with the reason."""

import argparse
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from arbiter_cli.main import COMMANDS, build_parser
from arbiter_cli.main import main as arbiter
from tests.support.snippets import ROOT, Block, sections

DOCS = ROOT / "docs"
BLOCKS = [
    (str(page.relative_to(DOCS)), block)
    for page in sorted(DOCS.rglob("*.md"))
    for section in sections(page)
    for block in section.blocks
]

RUN = {
    "python": "unit/docs/test_pages.py",
    "console": "unit/docs/test_pages.py",
    "text": "what the block before it prints",
    "yaml": "below, and on an API server in component/kube/test_crds.py",
}
RUN_ON_ITS_PAGE = {
    ("index.md", "sh"): "cluster/test_first_page.py",
    ("cli.md", ""): "unit/cli/test_docs.py",
    ("reference/container.md", "json"): "unit/docs/test_container.py",
}
NOT_RUN = {
    ("clusters.md", "sh"): "needs GPUs and NVIDIA's operator, or Docker and kind",
    ("monitoring.md", "sh"): "needs the Prometheus operator; the values are rendered in component/monitoring",
    ("install.md", ""): "needs a registry; the same by cluster/test_chart.py",
    ("operations.md", "sh"): "needs a release that was upgraded, or nodes to drain; the same by cluster/test_chart.py",
    ("performance.md", ""): "benchmarks of minutes",
    ("library.md", "sh"): "places traces that have to be fetched",
}


def test_every_block_is_run_or_says_why_not() -> None:
    left = {(page, block.mark) for page, block in BLOCKS if block.mark not in RUN}
    assert left == RUN_ON_ITS_PAGE.keys() | NOT_RUN.keys(), "list above what runs the block, or why nothing does"


YAML = {f"{page}, line {block.line}": block for page, block in BLOCKS if block.mark == "yaml"}
FILES = [block for block in YAML.values() if block.title]


@pytest.mark.parametrize("block", FILES, ids=lambda block: block.title)
def test_a_block_with_a_title_is_that_file(block: Block) -> None:
    assert block.text == (ROOT / block.title).read_text()


def test_the_cookbook_shows_every_file_of_its_folder() -> None:
    recipes = {str(path.relative_to(ROOT)) for path in (ROOT / "examples" / "cookbook").iterdir()}
    assert recipes == {block.title for block in FILES}


PODS = {name: block for name, block in YAML.items() if re.search(r"^ *containers:", block.text, re.MULTILINE)}


@pytest.mark.parametrize("block", PODS.values(), ids=PODS)
def test_pods_of_the_pages_ask_for_something_that_can_be_had(block: Block, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text(block.text)
    assert arbiter(["plan", "-f", str(manifest), "--gpu", "80Gi,80Gi"]) == 0


def commands() -> Iterator[tuple[str, str]]:
    """Each line of the commands that nobody runs, continued ones as one, with the page."""
    for page, block in BLOCKS:
        if (page, block.mark) in NOT_RUN:
            for line in block.text.replace("\\\n", " ").splitlines():
                yield page, line


SHELL = {f"{page}, line {block.line}": block for page, block in BLOCKS if block.mark == "sh"}


@pytest.mark.parametrize("block", SHELL.values(), ids=SHELL)
def test_a_shell_understands_the_commands(block: Block) -> None:
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)


def test_values_that_are_set_exist() -> None:
    values = yaml.safe_load((ROOT / "charts" / "arbiter" / "values.yaml").read_text())
    named = [path for _, line in commands() for path in re.findall(r"--set ([\w.]+)=", line)]
    assert named
    for path in named:
        inner = values
        for key in path.split("."):
            assert key in inner, path
            inner = inner[key]


def test_what_is_made_can_be_made() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    texts = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]
    named = {
        name for text in texts for name in re.findall(r"(?:`|^|&& )make ([a-z-]+)", text.read_text(), re.MULTILINE)
    }
    assert named > {"cluster-up", "docs"}
    assert named <= targets


def known_words() -> dict[str, set[str]]:
    """The flags of each command."""
    words = {}
    for name in COMMANDS:
        parsers = (action for action in build_parser(chosen=name)._actions if isinstance(action.choices, dict))
        parser: argparse.ArgumentParser = next(parsers).choices[name]  # type: ignore[index] # choices of commands
        words[name] = {word for action in parser._actions for word in action.option_strings}
    return words


def test_commands_and_flags_exist() -> None:
    words = known_words()
    spans = re.findall(
        r"`(?:kubectl )?arbiter ([a-z][^`]*)`", "\n".join(page.read_text() for page in DOCS.rglob("*.md"))
    )
    lines = [line.removeprefix("arbiter ") for _, line in commands() if line.startswith("arbiter ")]
    assert len(spans) + len(lines) > 20
    for line in spans + lines:
        command, *rest = shlex.split(line.replace("…", ""))
        assert command in words, line
        flags = {word.partition("=")[0] for word in rest if word.startswith("-")}
        assert flags <= words[command], line
