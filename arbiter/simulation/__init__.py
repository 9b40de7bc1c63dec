"""Traces of pods placed on a cluster that is not there: how well a placement packs.

`trace` is who comes, `ours` and `baselines` place them, `run` counts. Imports the standard library only.
"""

from arbiter.simulation.run import EmptyTraceError, Outcome, Rule, Sample, simulate
from arbiter.simulation.trace import WHOLE, TraceNode, TracePod

__all__ = ["WHOLE", "EmptyTraceError", "Outcome", "Rule", "Sample", "TraceNode", "TracePod", "simulate"]
