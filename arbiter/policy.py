"""The quality policy in force on a node, as the solver and the transition engine need it.

Imports the standard library only.
"""

from dataclasses import dataclass
from fractions import Fraction

from arbiter.workload import PolicyMode, Resize


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How quality is shared out and moved. Times are in seconds.

    `pressure_threshold` is the share of the movable capacity that is used before anybody sharing a GPU at full
    quality gives way (1: all of it). `shrink_grace` is how long a container may take to give bytes back where its
    demand does not say; `start_window` how long a starting neighbour keeps everything else still;
    `restore_interval` the least mean time between two grows of one container. Containers that are overdue, or use
    more than they may hold for longer than `shrink_grace`, are evicted if `evict_overdue`, and those of an unhealthy
    GPU after `gpu_lost_after`.
    """

    mode: PolicyMode = PolicyMode.ADAPTIVE
    adaptive: bool = True
    pressure_threshold: Fraction = Fraction(1)
    shrink_grace: float = 30.0
    start_window: float = 180.0
    restore_interval: float = 10.0
    evict_overdue: bool = False
    gpu_lost_after: float = 60.0

    @property
    def sizes_once(self) -> bool:
        """Whether everybody is sized at its start and then held."""
        return self.mode is PolicyMode.FIXED or not self.adaptive

    def resizes(self, resize: Resize) -> bool:
        """Whether the size of a container that can be resized like this may change after its start."""
        return resize is Resize.IN_PLACE and not self.sizes_once
