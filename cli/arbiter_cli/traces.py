"""Traces in files: nodes and pods as comma-separated values in the columns of Alibaba's cluster-trace-gpu-v2023.

Imports the core only.
"""

import csv
import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from arbiter.simulation import WHOLE, TraceNode, TracePod
from arbiter_cli.errors import InputError, MistakeError

NODE_LIST = "*node_list*.csv*"
"""The name of a file of nodes."""

_LARGEST = 10**9
_LONGEST = 20
_MOST_GPUS = 64

_Entry = TypeVar("_Entry")


def node_list_beside(trace: Path) -> Path:
    """The file of nodes in the folder of a trace.

    Raises:
        InputError: there is none, or there are several.
    """
    found = sorted(trace.parent.glob(NODE_LIST)) if trace.parent.is_dir() else []
    if len(found) != 1:
        what = "more than one file of nodes" if found else "no file of nodes"
        raise InputError(f"{trace.parent} has {what} ({NODE_LIST}); name it: --nodes FILE.")
    return found[0]


def read_nodes(path: Path) -> list[TraceNode]:
    """The nodes of a file with the columns sn, cpu_milli, memory_mib, gpu and model.

    Raises:
        InputError: it cannot be read; one sentence that names the line.
    """
    nodes = _read(path, _node)
    twice = next((name for name, times in Counter(node.name for node in nodes).items() if times > 1), None)
    if twice is not None:
        raise InputError(f'{path}: node "{twice}" is there twice; give each its own sn.')
    return nodes


def read_pods(path: Path) -> list[TracePod]:
    """The pods of a file with the columns name, cpu_milli, memory_mib, num_gpu, gpu_milli and gpu_spec, by name.

    Raises:
        InputError: it cannot be read; one sentence that names the line.
    """
    return [pod for _, pod in sorted(_read(path, _pod), key=lambda one: one[0])]


def _node(row: Mapping[str, str]) -> TraceNode:
    return TraceNode(
        name=_word(row, "sn"),
        cpu=_number(row, "cpu_milli"),
        memory=_number(row, "memory_mib"),
        gpus=_number(row, "gpu", most=_MOST_GPUS),
        model=_word(row, "model"),
    )


def _pod(row: Mapping[str, str]) -> tuple[str, TracePod]:
    gpus = _number(row, "num_gpu", most=_MOST_GPUS)
    milli = _number(row, "gpu_milli", most=WHOLE) if gpus else 0
    if gpus and not milli:
        raise MistakeError("gpu_milli is 0 although num_gpu is not; write thousandths of a GPU")
    if gpus > 1 and milli != WHOLE:
        raise MistakeError(f"gpu_milli is {milli} of several GPUs; parts are for one, write {WHOLE}")
    pod = TracePod(
        cpu=_number(row, "cpu_milli"),
        memory=_number(row, "memory_mib"),
        gpus=gpus,
        milli=milli,
        models=frozenset(model for model in (row.get("gpu_spec") or "").split("|") if model),
    )
    return _word(row, "name"), pod


def _read(path: Path, entry: Callable[[Mapping[str, str]], _Entry]) -> list[_Entry]:
    try:
        entries = [*_entries(path, entry)]
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not text of comma-separated values.") from error
    if not entries:
        raise InputError(f"{path} has no lines below its header.")
    return entries


def _entries(path: Path, entry: Callable[[Mapping[str, str]], _Entry]) -> Iterator[_Entry]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines)
        for row in rows:
            try:
                yield entry(row)
            except MistakeError as mistake:
                raise InputError(f"{path}, line {rows.line_num}: {mistake}.") from mistake


def _word(row: Mapping[str, str], column: str) -> str:
    text = row.get(column)
    if not text:
        raise MistakeError(f"there is no {column}")
    return text


def _number(row: Mapping[str, str], column: str, *, most: int = _LARGEST) -> int:
    text = _word(row, column)
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST and int(text) <= most):
        raise MistakeError(f'{column} "{text}" is no whole number from 0 to {most}')
    return int(text)
