"""People at work: pods that come, go and change their minds, and policies that change, at random."""

import itertools
import random
import time
from collections.abc import Callable, Iterator
from math import ceil
from typing import Any

from tests.cluster.chaos.api import GROUP, Api, RefusedError, UnavailableError
from tests.cluster.chaos.recorder import ALLOCATIONS, PODS
from tests.cluster.chaos.reference import PRIORITIES
from tests.cluster.workloads import Workload

MOST_PODS = 10
PATIENCE_SECONDS = 150.0

_TYPES = ("LlmInference", "ImageGeneration", "VideoGeneration")
_MODES = ("Adaptive", "LlmFirst", "DiffusionFirst", "Balanced", "Fixed")
_POLICY = f"{GROUP}/qualitypolicies"
_LOCAL = {"metadata": {"name": "local"}, "kind": "QualityPolicy", "apiVersion": "arbiter.infernum.io/v1alpha1"}
_WINDOW = {"startWindow": "10s"}
"""Whoever has not answered by then counts as one that does not move: the default leaves it more than our patience."""

ENGINES: dict[str, dict[str, Any]] = {
    "quick": {"apply_seconds": 0.1},
    "steady": {"apply_seconds": 1.0},
    "twice": {"apply_seconds": 0.2, "manner": "repeating"},
    "late": {"apply_seconds": 5.0, "shrink_grace": "2s"},
    "silent": {"apply_seconds": 0.2, "manner": "silent"},
    "lying": {"apply_seconds": 2.0, "manner": "lying", "shrink_grace": "4s"},
    "once": {"apply_seconds": 0.1, "resize": "AtStart"},
}
"""How engines behave; the first three are honest and quick."""

PROMPT = ("quick", "steady", "twice")
_CHANCES = (8, 4, 2, 1, 1, 1, 1)


STEPPING = 0.25
"""How many engines know a few sizes only."""


def in_steps(workload: Workload) -> Workload:
    """The same with one size between its floor and its full one, where there is any."""
    full, floor = (int(str(size).removesuffix("Gi")) for size in (workload.full, workload.floor))
    if full - floor < 2:
        return workload
    least = max(0.4, floor / full)
    return workload.asking(
        minimum=ceil(least * 1000) / 1000, levels=((ceil((1 + least) * 500) / 1000, f"{(full + floor) // 2}Gi"),)
    )


class Life:
    """The pods that there are; `names` of all that this made, by how their engines behave."""

    def __init__(self, api: Api, chance: random.Random) -> None:
        self._api, self._chance = api, chance
        self._ask("PATCH", f"{_POLICY}/default", {"spec": _WINDOW})
        self._numbers: Iterator[int] = itertools.count()
        self.alive: dict[str, Workload] = {}
        self.engines: dict[str, str] = {}
        self._modes: dict[str, str] = {}
        self._is_policy_new = False
        """Whether one changed since everything had converged: some may know it already, and others not yet."""
        self._surprised: set[str] = set()
        """Who was there while it was new that nobody may move: sizes that were to be given back are kept."""

    @property
    def prompt(self) -> list[str]:
        """The pods whose engines are honest and quick."""
        return [name for name, engine in self.engines.items() if engine in PROMPT]

    @property
    def unsurprised(self) -> list[str]:
        """Those of them that never saw a policy come that lets nobody move."""
        return [name for name in self.prompt if name not in self._surprised]

    def change(self) -> None:
        """One arrival, departure, edit, or change of a policy."""
        actions: list[Callable[[], None]] = [self._edit, self._edit, self._depart, self._depart] if self.alive else []
        if len(self.alive) < MOST_PODS:
            actions += [self._arrive] * (6 if len(self.alive) < MOST_PODS // 2 else 3)
        self._chance.choice([*actions, self._change_policy])()
        if self._is_policy_new and "Fixed" in self._modes.values():
            self._surprised.update(self.alive)

    def rest(self) -> None:
        """Everything has converged, by the policies that are in force."""
        self._is_policy_new = False

    def make_anew(self, name: str) -> None:
        """The pod that the kubelet did not take, as a controller would."""
        workload = self.alive[name]
        self._delete_now(name)
        self._ask("POST", PODS, workload.pod)

    def forget(self, name: str) -> None:
        """A pod that was evicted does not come back."""
        del self.alive[name]
        self._ask("DELETE", f"{ALLOCATIONS}/{name}")

    def _arrive(self) -> None:
        [engine] = self._chance.choices([*ENGINES], _CHANCES)
        full = self._chance.randrange(2, 15)
        workload = Workload(
            name=f"{engine}-{next(self._numbers)}",
            workload_type=self._chance.choice(_TYPES),
            priority=self._chance.choice(PRIORITIES),
            full=f"{full}Gi",
            floor=f"{full * self._chance.randrange(40, 80) // 100 + 1}Gi",
            gpu_count=self._chance.choice((1, 1, 1, 1, 1, 2)),
            **ENGINES[engine],
        )
        if self._chance.random() < STEPPING:
            workload = in_steps(workload)
        self._ask("POST", ALLOCATIONS, workload.allocation)
        self._ask("POST", PODS, workload.pod)
        self.alive[workload.name], self.engines[workload.name] = workload, engine

    def _depart(self) -> None:
        """Now and then by force."""
        name = self._chance.choice(sorted(self.alive))
        if self._chance.random() < 0.2:
            self._delete_now(name)
        else:
            self._ask("DELETE", f"{PODS}/{name}")
        self.forget(name)

    def _edit(self) -> None:
        """Another priority, or another full size."""
        name = self._chance.choice(sorted(self.alive))
        workload = self.alive[name]
        if self._chance.random() < 0.5 or workload.levels:
            changed = workload.asking(priority=self._chance.choice(PRIORITIES))
        else:
            least = int(str(workload.floor).removesuffix("Gi"))
            changed = workload.asking(full=f"{self._chance.randrange(least, 16)}Gi")
        self._ask("PATCH", f"{ALLOCATIONS}/{name}", {"spec": changed.spec})
        self.alive[name] = changed

    def _change_policy(self) -> None:
        """The policy of everybody, or one of the first node's own that comes and goes."""
        self._is_policy_new = True
        spec: dict[str, Any] = {
            **_WINDOW,
            "mode": self._chance.choice(_MODES),
            "pressureThreshold": self._chance.choice((0.7, 0.85, 1.0)),
        }
        match self._chance.randrange(4):
            case 0:
                self._ask("DELETE", f"{_POLICY}/local")
                self._modes.pop("local", None)
            case 1:
                spec |= {"nodeSelector": {"kubernetes.io/hostname": "gpu-1"}, "weight": 10}
                self._ask("DELETE", f"{_POLICY}/local")
                self._ask("POST", _POLICY, {**_LOCAL, "spec": spec})
                self._modes["local"] = spec["mode"]
            case _:
                self._ask("PATCH", f"{_POLICY}/default", {"spec": spec})
                self._modes["default"] = spec["mode"]

    def _delete_now(self, name: str) -> None:
        self._ask("DELETE", f"{PODS}/{name}?gracePeriodSeconds=0")

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        """Again and again while nobody answers, as any controller would: all that is asked for is idempotent."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self._api.call(method, path, body)
            except UnavailableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            except RefusedError as error:
                # Made by an attempt whose answer was lost.
                if method == "POST" and '"reason":"AlreadyExists"' in str(error):
                    return
                raise
            else:
                return
