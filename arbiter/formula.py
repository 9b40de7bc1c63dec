"""The reference coordinator's quality formula over pressures 0 to 1, exact: curves and calculator are made of it.

Imports the standard library only. Source: infernum-arbiter 0.2.0-rc.2, whose coordinator follows its calculator.
"""

from fractions import Fraction
from typing import assert_never

from arbiter.piecewise import Piecewise, joined
from arbiter.policy import Policy
from arbiter.workload import PolicyMode, Priority, WorkloadType

_ZERO, _ONE = Fraction(0), Fraction(1)
_PRESSURE = joined((_ZERO, _ZERO), (_ONE, _ONE))
_FULL = joined((_ZERO, _ONE), (_ONE, _ONE))


def calculated_quality(priority: Priority, *, minimum: Fraction, target: Fraction = _ONE) -> Piecewise:
    """The calculator's answer: half of the `target` goes as the pressure rises; never below `minimum`, nor above 1."""
    multiplier = priority.quality_multiplier
    return _PRESSURE.scale(Fraction("-0.5")).shift(_ONE).scale(target).scale(multiplier).clamp(minimum, _ONE)


def coordinated_quality(calculated: Piecewise, workload_type: WorkloadType, policy: Policy) -> Piecewise:
    """The coordinator's answer, made of the calculator's. It may be below the minimum: clamp what you make of it."""
    if policy.sizes_once:
        return _FULL
    match policy.mode:
        case PolicyMode.FIXED:
            return _FULL
        case PolicyMode.ADAPTIVE:
            return calculated
        case PolicyMode.BALANCED:
            return calculated.scale(Fraction("0.45")).shift(Fraction("0.5"))
        case PolicyMode.LLM_FIRST:
            return _favouring(calculated, is_favoured=workload_type.is_llm)
        case PolicyMode.DIFFUSION_FIRST:
            return _favouring(calculated, is_favoured=not workload_type.is_llm)
        case _:
            assert_never(policy.mode)


def _favouring(calculated: Piecewise, *, is_favoured: bool) -> Piecewise:
    return calculated.clamp(Fraction("0.7"), _ONE) if is_favoured else calculated.scale(Fraction("0.9"))
