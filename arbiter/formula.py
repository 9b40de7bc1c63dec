"""The reference coordinator's quality formula over pressures 0 to 1, exact: curves and calculator are made of it.

Imports the standard library only. Source: infernum-arbiter 0.2.0-rc.2, whose coordinator follows its calculator.
"""

from fractions import Fraction

from arbiter.piecewise import Piecewise, joined
from arbiter.policy import Policy
from arbiter.workload import PolicyMode, Priority, WorkloadType

_ZERO, _ONE = Fraction(0), Fraction(1)
_PRESSURE = joined((_ZERO, _ZERO), (_ONE, _ONE))


def calculated_quality(priority: Priority, *, minimum: Fraction, target: Fraction = _ONE) -> Piecewise:
    """The calculator's answer: half of the `target` goes as the pressure rises; never below `minimum`, nor above 1."""
    multiplier = priority.quality_multiplier
    return _PRESSURE.scale(Fraction("-0.5")).shift(_ONE).scale(target).scale(multiplier).clamp(minimum, _ONE)


def coordinated_quality(calculated: Piecewise, workload_type: WorkloadType, policy: Policy) -> Piecewise:
    """The coordinator's answer, made of the calculator's. It may be below the minimum: clamp what you make of it."""
    if policy.sizes_once:
        return joined((_ZERO, _ONE), (_ONE, _ONE))
    if policy.mode is PolicyMode.BALANCED:
        return calculated.scale(Fraction("0.45")).shift(Fraction("0.5"))
    if policy.mode is PolicyMode.ADAPTIVE:
        return calculated
    favoured = workload_type.is_llm == (policy.mode is PolicyMode.LLM_FIRST)
    return calculated.clamp(Fraction("0.7"), _ONE) if favoured else calculated.scale(Fraction("0.9"))
