"""What keys do to the screen, and what of the lines it shows. Pure: a state and a key in, a state out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from arbiter_cli.top.lines import Line, Tone
from arbiter_cli.top.view import Sort


class Key(StrEnum):
    """Keys that mean something, by what terminals send."""

    UP = "\x1b[A"
    DOWN = "\x1b[B"
    PAGE_UP = "\x1b[5~"
    PAGE_DOWN = "\x1b[6~"
    HOME = "\x1b[H"
    END = "\x1b[F"
    ESCAPE = "\x1b"
    ENTER = "\r"
    SORT = "s"
    NAMESPACE = "n"
    QUIT = "q"


_ALIASES = {"k": Key.UP, "j": Key.DOWN, "\n": Key.ENTER, "\x1bOA": Key.UP, "\x1bOB": Key.DOWN, "\x7f": Key.ESCAPE}

_SPELLINGS = sorted({**{str(key): key for key in Key}, **_ALIASES}.items(), key=lambda item: -len(item[0]))

HINTS = "[s]ort [n]amespace [enter] explain [q]uit"
BACK = "[esc] back [q]uit"


def keys_of(text: str) -> Iterator[Key]:
    """The keys in what a terminal sent; others are left out."""
    while text:
        found = next(((spelling, key) for spelling, key in _SPELLINGS if text.startswith(spelling)), None)
        if found is None:
            text = text[1:]
            continue
        yield found[1]
        text = text[len(found[0]) :]


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """What a person has chosen: `cursor` is a line, `page` the explanation that is open, `scroll` its first line."""

    sort: Sort = Sort.GPU
    namespace: str | None = None
    cursor: int = 0
    page: tuple[str, ...] | None = None
    scroll: int = 0
    quit: bool = False
    opens: bool = False
    """Whether the line at the cursor is to be explained now."""


def pressed(screen: Screen, key: Key, *, lines: Sequence[Line], namespaces: Sequence[str], height: int) -> Screen:
    """The screen after a key; `height` lines fit, `namespaces` may be chosen."""
    if key is Key.QUIT:
        return replace(screen, quit=True)
    if screen.page is not None:
        return _pressed_on_page(screen, screen.page, key, height=height)
    match key:
        case Key.ENTER:
            return replace(screen, opens=True)
        case Key.SORT:
            order = [*Sort]
            return replace(screen, sort=order[(order.index(screen.sort) + 1) % len(order)], cursor=0)
        case Key.NAMESPACE:
            choices = [None, *namespaces]
            at = choices.index(screen.namespace) if screen.namespace in choices else 0
            return replace(screen, namespace=choices[(at + 1) % len(choices)], cursor=0)
    last = max(0, len(_rows(lines)) - 1)
    return replace(screen, cursor=_moved(min(screen.cursor, last), key, last=last, height=height))


def _pressed_on_page(screen: Screen, page: tuple[str, ...], key: Key, *, height: int) -> Screen:
    if key in (Key.ESCAPE, Key.ENTER):
        return replace(screen, page=None, scroll=0)
    return replace(screen, scroll=_moved(screen.scroll, key, last=max(0, len(page) - height), height=height))


def _moved(at: int, key: Key, *, last: int, height: int) -> int:
    steps = {
        Key.UP: -1,
        Key.DOWN: 1,
        Key.PAGE_UP: -height,
        Key.PAGE_DOWN: height,
        Key.HOME: -at,
        Key.END: last,
    }
    return max(0, min(last, at + steps.get(key, 0)))


@dataclass(frozen=True, slots=True)
class Shown:
    """A line on the screen, and whether the cursor is on it."""

    line: Line
    chosen: bool = False


def shown(screen: Screen, lines: Sequence[Line], *, height: int) -> list[Shown]:
    """Exactly what fits below the title: headings stay at the top, the cursor is always in sight."""
    if screen.page is not None:
        return [Shown(Line(text, Tone.PLAIN)) for text in screen.page[screen.scroll : screen.scroll + height]]
    headings = [line for line in lines if line.tone is Tone.HEADING][: max(0, height - 1)]
    rows = _rows(lines)
    room = max(1, height - len(headings))
    cursor = min(screen.cursor, max(0, len(rows) - 1))
    first = max(0, min(cursor - room // 2, len(rows) - room))
    below = [Shown(line, first + number == cursor) for number, line in enumerate(rows[first : first + room])]
    return [*map(Shown, headings), *below]


def chosen_line(screen: Screen, lines: Sequence[Line]) -> Line | None:
    """The line at the cursor, where it is about something that can be explained."""
    rows = _rows(lines)
    line = rows[min(screen.cursor, len(rows) - 1)] if rows else None
    return None if line is None or line.subject is None else line


def _rows(lines: Sequence[Line]) -> list[Line]:
    """Those that the cursor can be on."""
    return [line for line in lines if line.tone is not Tone.HEADING]


def titled(title: str, hints: str, *, width: int) -> str:
    """The title with its hints at the right edge, where there is room for both."""
    gap = width - len(title) - len(hints)
    return f"{title}{' ' * gap}{hints}" if gap >= 2 else title[:width]
