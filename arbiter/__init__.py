"""Arbiter's library: shares a GPU's memory between workloads that can run at reduced quality. No Kubernetes needed.

| module | what |
|---|---|
| `workload`, `policy`, `demand`, `units`, `ids`, `arguments` | what a workload asks for, and how that is refused |
| `calculator`, `coordinator`, `memory` | quality from a type, a priority and the pressure; an account of bytes |
| `formula`, `curves`, `piecewise`, `price`, `equilibrium` | one price per GPU; every quality and size follows from it |
| `placement`, `preemption` | on which GPUs a newcomer goes, and who makes room |
| `targets` | the equilibrium where some have not given back in time |
| `transitions` | how bytes change hands: shrink before grow |
| `local` | `Arbiter`: one GPU shared by the threads and tasks of one process |
| `cache` | fragments of weights, kept once for all engines |
| `detection` | which GPUs this machine has |
| `client`, `run` | for engines in containers: read the target, or be run by it |

Errors, each of which says in one sentence what to write or do instead:

    ValueError
    ├── units.QuantityError                a size that is no size
    ├── demand.InvalidDemandError          a demand that contradicts itself
    └── transitions.InvalidRecordError     a record of the node agent that cannot be read
    ArbiterError                           what an `Arbiter` answers instead of an allocation (drawn in `local.errors`)
    cache.CacheError                       what a fragment cache cannot do (drawn in `cache.errors`)
    client.QualityError                    no target in this container, or its agent cannot be reached

Imports the standard library only, and that not before a public name is asked for: an engine that takes `arbiter.client`
alone waits for nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arbiter.exports import *  # noqa: F403 - the names are listed there, once
    from arbiter.exports import __all__ as __all__
else:

    def __getattr__(name):
        if name == "__all__" or not name.startswith("__"):
            exports = import_module("arbiter.exports")
            if name in ("__all__", *exports.__all__):
                return getattr(exports, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return [*globals(), *__getattr__("__all__")]
