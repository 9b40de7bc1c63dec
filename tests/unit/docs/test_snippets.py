"""What runs examples of a page notices an example that is wrong."""

from pathlib import Path

import pytest

from tests.support.snippets import run_section, sections

PAGE = """# Title

```python
x = 1
print(x)
```

```text
1
```

## Next

```python
print("x" in globals())
```

```text
False
```

```python
y = 2
```

```python
print(y)
```

Some words.

```text
not what the example above prints
```
"""


def page(folder: Path, text: str) -> Path:
    path = folder / "page.md"
    path.write_text(text)
    return path


def test_sections_have_names_of_their_own(tmp_path: Path) -> None:
    title, _ = sections(page(tmp_path, PAGE))
    run_section(title, tmp_path / "page.md")
    assert title.title == "Title"


def test_output_that_the_page_does_not_show_right_below_is_a_mistake(tmp_path: Path) -> None:
    _, following = sections(page(tmp_path, PAGE))
    with pytest.raises(AssertionError, match=r"page\.md, line 27"):
        run_section(following, tmp_path / "page.md")


WRONG = {
    "an output that differs": "```python\nprint(1)\n```\n\n```text\n2\n```\n",
    "an output that is not there": "```python\npass\n```\n```text\n2\n```\n",
    "a command whose output differs": "```console\n$ echo one\ntwo\n```\n",
    "the second of two commands": "```console\n$ echo one\none\n$ echo two\n```\n",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_it_fails_on(text: str, tmp_path: Path) -> None:
    path = page(tmp_path, text)
    with pytest.raises(AssertionError):
        run_section(sections(path)[0], path)


def test_an_error_names_the_line_of_the_page(tmp_path: Path) -> None:
    path = page(tmp_path, "words\n\n```python\n\n1 / 0\n```\n")
    with pytest.raises(ZeroDivisionError) as caught:
        run_section(sections(path)[0], path)
    assert (caught.traceback[-1].path, caught.traceback[-1].lineno + 1) == (path, 5)


def test_commands_that_print_what_the_page_says_pass(tmp_path: Path) -> None:
    path = page(tmp_path, "```console\n$ echo one\none\n$ true\n$ echo a && echo b\na\nb\n```\n")
    run_section(sections(path)[0], path)
