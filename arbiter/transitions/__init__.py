"""From targets to grants: the state machine that carries targets out without promising a byte twice.

Events in, actions out, the clock a parameter; the node agent and the in-process arbiter are its shells. Imports the
standard library and the core's data types.

===============  ==================================================================================
`events`         what the engine is told
`actions`        what it asks for, and the status that it reports per grant
`record`         what survives a crash: the promises that a container may still hold
`container`      one container: its record, what was observed of its pod, what both mean
`node`           the GPUs with their containers: who may hold what, what is reserved, what is free
`gate`           when a start is released, and with which size
`moves`          shrinks and grows of running containers
`confirmation`   acknowledgements, measurements, overdue shrinks
`engine`         one event after another: apply it, then let the rules act until nothing is left to do
===============  ==================================================================================
"""

from arbiter.transitions.actions import (
    Action,
    Forget,
    Gated,
    Grant,
    GrantReason,
    GrantState,
    GrantStatus,
    Measure,
    Publish,
    Refuse,
    Release,
    Save,
    ShrinkOverdue,
)
from arbiter.transitions.engine import Engine
from arbiter.transitions.events import (
    Acknowledged,
    Ended,
    Event,
    Exited,
    GpusChanged,
    Measured,
    PodObserved,
    PodsListed,
    PodVanished,
    PolicyChanged,
    StartAbandoned,
    StartRequested,
    Target,
    Tick,
)
from arbiter.transitions.record import InvalidRecordError, Promise, Record, decode, encode

__all__ = [
    "Acknowledged",
    "Action",
    "Ended",
    "Engine",
    "Event",
    "Exited",
    "Forget",
    "Gated",
    "GpusChanged",
    "Grant",
    "GrantReason",
    "GrantState",
    "GrantStatus",
    "InvalidRecordError",
    "Measure",
    "Measured",
    "PodObserved",
    "PodVanished",
    "PodsListed",
    "PolicyChanged",
    "Promise",
    "Publish",
    "Record",
    "Refuse",
    "Release",
    "Save",
    "ShrinkOverdue",
    "StartAbandoned",
    "StartRequested",
    "Target",
    "Tick",
    "decode",
    "encode",
]
