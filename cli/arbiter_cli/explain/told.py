"""What a pod itself says of its quality, for those who may not see its neighbours. Pure."""

from dataclasses import dataclass
from fractions import Fraction

from arbiter.units import format_bytes, format_mib
from arbiter_cli.explain.events import Happening
from arbiter_cli.explain.sentences import closing
from arbiter_cli.kinds import TimedPod
from arbiter_kube.api.pods import GpuPod


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldExplanation:
    """The answer for a pod whose neighbours may not be seen; `vram` and `floor` in bytes per GPU, `decided` in seconds.

    `withheld` is why there is no more.
    """

    pod: str
    headline: str
    quality: Fraction | None
    vram: int | None
    floor: int
    revision: int | None
    reason: str
    decided: float | None
    closing: str
    withheld: str
    events: tuple[Happening, ...] = ()


def explain_told(
    pod: TimedPod, seen: GpuPod, *, withheld: str, now: float, events: tuple[Happening, ...] = ()
) -> ToldExplanation:
    """What was written on the pod; `now` in seconds since the epoch."""
    told = seen.grant
    return ToldExplanation(
        pod=seen.key,
        headline=_headline(seen),
        quality=None if told is None else Fraction(told.quality),
        vram=None if told is None else told.vram,
        floor=seen.demand.floor,
        revision=None if told is None else told.revision,
        reason="" if told is None else told.reason,
        decided=None if pod.decided_at is None else max(0.0, now - pod.decided_at),
        closing=closing(seen.demand),
        withheld=f"Its neighbours, and what would change it, cannot be seen: {withheld}",
        events=events,
    )


def _headline(seen: GpuPod) -> str:
    if seen.node is None:
        return f"Waits for a GPU with room for its floor, {format_bytes(seen.demand.floor)}."
    if seen.grant is None:
        return f"On node {seen.node}, no target yet."
    told = seen.grant
    return (
        f"Quality {told.quality}, {format_mib(told.vram)} on node {seen.node}, revision {told.revision}; "
        f"pressure {told.pressure}, mode {told.mode}."
    )
