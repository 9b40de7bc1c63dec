"""What each kubelet knew of its devices, and when: by what its device plugin's log says that it was told.

Imports the standard library only.
"""

import re
from collections import defaultdict
from datetime import datetime
from itertools import pairwise

_TOLD = re.compile(r"^time=(\S+) .* slices told count=\d+ healthy=(\d+)$", re.MULTILINE)
_ENDS_IT = ("device-plugin", "kubelet")
_READING_SECONDS = 2.0
"""Until a kubelet goes by what it was told, on a busy machine."""


class Devices:
    """Give it the logs often: those of containers that ended are soon removed. Times are seconds since the epoch."""

    def __init__(self) -> None:
        self._told: defaultdict[str, dict[float, int]] = defaultdict(dict)
        self._pauses: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)

    def told(self, node: str, log: str) -> None:
        """What the node's plugin has printed."""
        for time, healthy in _TOLD.findall(log):
            self._told[node][datetime.fromisoformat(time).timestamp()] = int(healthy)

    def killed(self, component: str, *, at: float) -> None:
        """A process is gone: where it was a plugin or a kubelet, nothing is known there until it is told anew."""
        name, _, node = component.partition("/")
        if name in _ENDS_IT:
            self._told[node][at] = 0

    def paused(self, component: str, *, since: float, until: float) -> None:
        """A process stood still: a kubelet knows what it was told meanwhile only later."""
        name, _, node = component.partition("/")
        if name == "kubelet":
            self._pauses[node].append((since, until))

    def lacking(self, node: str, *, since: float, until: float) -> bool:
        """Whether the kubelet may have known of fewer than all healthy slices at any moment of that time."""
        told = sorted(self._told[node].items())
        whole = max((healthy for _, healthy in told), default=0)
        spans = pairwise([(float("-inf"), 0), *told, (float("inf"), 0)])
        return any(
            healthy < whole and begun <= until and self._read_by(node, ended) >= since
            for (begun, healthy), (ended, _) in spans
        )

    def _read_by(self, node: str, time: float) -> float:
        pauses = (over for begun, over in self._pauses[node] if begun <= time + _READING_SECONDS and time <= over)
        return max((time, *pauses)) + _READING_SECONDS
