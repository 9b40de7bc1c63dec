"""kubectl takes the commands that the doctor and the pages tell people to run."""

import re
import shlex
from collections.abc import Iterator

import pytest

from arbiter_cli.doctor.command import judged
from hack.cluster import binaries
from hack.cluster.command import run
from tests.support.snippets import ROOT
from tests.unit.cli.test_doctor import FAILURES

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def told() -> Iterator[str]:
    """Every command line that begins with kubectl, of the doctor and of the pages."""
    remedies = (remedy for facts, _, _ in FAILURES.values() for check in judged(facts) for remedy in check.remedies)
    yield from (remedy[remedy.index("kubectl ") :] for remedy in remedies if "kubectl " in remedy)
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        yield from re.findall(r"(?:`|^|\$\()(kubectl [^`\n]+)", text, re.MULTILINE)


def words_of(line: str) -> list[str]:
    """What kubectl is given, without what stands behind: another command, or a remark."""
    return shlex.split(re.split(r" \| | && | -- |; | {3}\(|\)$", line)[0])[1:]


def verb_of(words: list[str]) -> str:
    return next(word for at, word in enumerate(words) if word[0] != "-" and not re.fullmatch(r"-\w", words[at - 1]))


def flags_by_verb() -> dict[str, set[str]]:
    flags: dict[str, set[str]] = {}
    for words in map(words_of, told()):
        given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        flags.setdefault(verb_of(words), set()).update(given)
    return {verb: given for verb, given in flags.items() if given and verb != "arbiter"}


FLAGS = flags_by_verb()


def kubectl(*words: str) -> str:
    return run([str(binaries.directory() / "kubectl"), *words], seconds=60)


@pytest.fixture(scope="module")
def everywhere() -> str:
    """What kubectl says of flags that all verbs have."""
    return kubectl("options")


def test_commands_are_found_in_the_doctor_and_the_pages() -> None:
    assert {"--tail", "-l"} <= FLAGS["logs"]
    assert {"--ignore-daemonsets"} <= FLAGS["drain"]


@pytest.mark.parametrize("verb", FLAGS)
def test_kubectl_has_the_flags_of_every_command(verb: str, everywhere: str) -> None:
    known = {*re.findall(r"--?[a-z][\w-]*", kubectl(*verb.split(), "--help") + everywhere)}
    assert FLAGS[verb] - known == set()
