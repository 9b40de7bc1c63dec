"""The priority classes that pods get: one for each level, by which kube-scheduler orders those that wait.

None of them preempts: kube-scheduler cannot know whose memory would help, so evictions are the operator's.
"""

from dataclasses import dataclass

from arbiter.workload import Priority

PREEMPTION_POLICY = "Never"


@dataclass(frozen=True, slots=True)
class PriorityClass:
    """Name and value of a Kubernetes PriorityClass."""

    name: str
    value: int


def priority_class(priority: Priority) -> PriorityClass:
    """The class of a level: above pods without one, far below those that keep the cluster alive."""
    return PriorityClass(f"arbiter-{priority.value.lower()}", 1000 * (priority.level + 1))
