"""The annotations of pods and the label of namespaces, with the words that stand below their names in the code.

Imports the API's annotations.
"""

import ast
import inspect
from collections.abc import Iterator, Sequence
from itertools import pairwise

from arbiter_kube.api import annotations
from hack.reference.tables import code, table

_PEOPLE = """# Annotations

Of pods and pod templates. A quality is a decimal such as `0.5`, a size is as `10Gi`.

## Written by people

Either `allocation`, or the others, or none of them and the extended resource alone.
What they ask for is frozen when the pod is created; later edits of a pod's own annotations change nothing.
"""

_ARBITER = """
## Written by Arbiter

Whoever else changes or removes one of them is refused; on a pod that is created they are left out with a warning.
"""


def page() -> str:
    """The page."""
    words = dict(_documented())
    return (
        _PEOPLE
        + "\n"
        + _listed(annotations.PEOPLE_KEYS, words)
        + _ARBITER
        + "\n"
        + _listed(annotations.ARBITER_KEYS, words)
    )


def _listed(keys: Sequence[str], words: dict[str, str]) -> str:
    return table(("annotation", "meaning"), [(code(key), words[key]) for key in keys])


def _documented() -> Iterator[tuple[str, str]]:
    """Each key with the string that follows it in the module."""
    body = ast.parse(inspect.getsource(annotations)).body
    for statement, after in pairwise(body):
        match statement, after:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(text))):
                yield getattr(annotations, name), " ".join(text.split())
