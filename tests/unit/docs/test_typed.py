"""What follows a page notices what is not as the page says."""

import subprocess
from pathlib import Path

import pytest

from tests.support.typed import Step, missing, printed, script, steps

PAGE = """# Title

```sh
where=here
```

```sh
echo "$where"
echo there
```

```text
here
```

```yaml
not: a command
```

## Next

```sh
false
```

```text
never seen
```
"""


@pytest.fixture
def page(tmp_path: Path) -> list[Step]:
    (tmp_path / "page.md").write_text(PAGE)
    return steps(tmp_path / "page.md")


def test_every_block_of_commands_is_a_step(page: list[Step]) -> None:
    assert page == [
        Step("where=here\n", "", 4),
        Step('echo "$where"\necho there\n', "here\n", 8),
        Step("false\n", "never seen\n", 23),
    ]


def test_one_shell_runs_them_all_and_ends_at_the_first_that_fails(page: list[Step]) -> None:
    done = subprocess.run(["bash", "-c", script(page)], capture_output=True, text=True, check=False)
    assert (done.returncode, printed(done.stdout)) == (1, ["", "here\nthere\n", ""])


SAME = {
    "the same": ("a b\n", "a b\n"),
    "among other lines": ("b\n", "a\nb\nc\n"),
    "columns of another width": ("NAME  AGE\nx     5s\n", "NAME        AGE\nx           1m12s\n"),
    "another pod": ("chat-7d9f5c6b8-x2k8q has it, 0.27s\n", "chat-6c8f5d7b94-bcdfg has it, 1.3s\n"),
    "another pod of a Job": ("posters-4k2wz\n", "posters-zzzzz\n"),
}
OTHER = {
    "a line that is not there": ("a\nb\n", "a\n", ["b"]),
    "another order": ("a\nb\n", "b\na\n", ["b"]),
    "another quality": ("0.904\n", "0.903\n", ["0.904"]),
    "another name": ("chat-small\n", "chat-large\n", ["chat-small"]),
    "a time where there is none": ("for 5s\n", "for ever\n", ["for 5s"]),
}


@pytest.mark.parametrize(("expected", "said"), SAME.values(), ids=SAME)
def test_it_takes_for_the_same(expected: str, said: str) -> None:
    assert missing(expected, said) == []


@pytest.mark.parametrize(("expected", "said", "lines"), OTHER.values(), ids=OTHER)
def test_it_misses(expected: str, said: str, lines: list[str]) -> None:
    assert missing(expected, said) == lines
