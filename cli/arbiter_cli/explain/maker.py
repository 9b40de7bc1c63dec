"""Why a Deployment, or whatever else makes pods, has not the pods that it wants, and what to do. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from arbiter_cli.explain.events import happenings
from arbiter_cli.explain.several import Group, explain_several
from arbiter_cli.kinds import Maker, TimedPod
from arbiter_cli.snapshot import Snapshot
from arbiter_kube.api.objects import Event, PodPhase

_REFUSED = "FailedCreate"
_DENIED = " denied the request: "
_REVISION = "deployment.kubernetes.io/revision"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A maker of some `kind`, the objects through which it makes pods (itself, or ReplicaSets), and their events."""

    kind: str
    maker: Maker
    through: Sequence[Maker]
    events: Sequence[Event]


def explain_maker(snapshot: Snapshot, made: Made) -> Group:
    """Its pods, and why those that are missing were refused."""
    current = _current(made.through)
    uids = {maker.metadata.uid for maker in made.through}
    pods = [pod for pod in snapshot.pods.values() if any(owner.uid in uids for owner in pod.metadata.owner_references)]
    live = [pod for pod in pods if not pod.is_finished and not pod.is_terminating]
    rows, worst = explain_several(snapshot, live)
    wanted = _wanted(made)
    missing = wanted is None or len(live) < wanted
    refusal = _refusal(current, made.events) if missing and current is not None else ""
    key = made.maker.metadata.key
    return Group(
        name=str(key),
        headline=_headline(made, live, wanted=wanted),
        problems=tuple([f"Refused: {_sentence(refusal)}", f"do: {_remedy(refusal, made)}"] if refusal else []),
        pods=rows,
        worst=worst,
        events=() if refusal else happenings(made.events, now=snapshot.at),
    )


def _current(through: Iterable[Maker]) -> Maker | None:
    """The one that makes pods now: a Deployment's ReplicaSet of the highest revision."""

    def revision(maker: Maker) -> int:
        text = maker.metadata.annotations.get(_REVISION, "")
        return int(text) if text.isdigit() else 0

    return max(through, key=revision, default=None)


def _wanted(made: Made) -> int | None:
    """How many pods it should have now; None where that is nowhere said."""
    spec, status = made.maker.spec, made.maker.status
    if made.kind == "DaemonSet":
        return status.desired_number_scheduled
    if made.kind == "Job":
        finished = any(condition.type in ("Complete", "Failed") for condition in status.conditions or ())
        return 0 if finished else spec.parallelism
    return spec.replicas


def _headline(made: Made, live: Sequence[TimedPod], *, wanted: int | None) -> str:
    running = sum(pod.status.phase is PodPhase.RUNNING for pod in live)
    wants = "" if wanted is None else f"wants {wanted} pod{'' if wanted == 1 else 's'}, "
    return f"{made.kind}, {wants}has {len(live)}, of them {running} running."


def _refusal(current: Maker, events: Iterable[Event]) -> str:
    """What the API server last answered when a pod was to be made; the condition outlives the event."""
    told = [event for event in events if event.reason == _REFUSED and event.involved_object.uid == current.metadata.uid]
    if told:
        return max(told, key=_moment).message
    conditions = (condition for condition in current.status.conditions or () if condition.status == "True")
    return next((condition.message for condition in conditions if condition.type == "ReplicaFailure"), "")


def _moment(event: Event) -> float:
    moment = event.last_timestamp or event.first_timestamp
    return 0.0 if moment is None else moment.timestamp()


def _sentence(refusal: str) -> str:
    """Without what the API server and the controller put before it."""
    text = " ".join(refusal.split()).removeprefix("Error creating: ")
    return text.partition(_DENIED)[2] or text


def _remedy(refusal: str, made: Made) -> str:
    metadata = made.maker.metadata
    where = f"{made.kind.lower()}/{metadata.name} -n {metadata.namespace}"
    if "failed calling webhook" in refusal:
        return "the operator, which admits such pods, does not answer: arbiter doctor"
    if "exceeded quota" in refusal:
        return f"kubectl describe resourcequota -n {metadata.namespace}; raise it, or lower the floor"
    if "no GpuAllocation" in refusal:
        return f"apply that GpuAllocation, or name another: kubectl edit {where}; its pods are then made by themselves"
    if made.kind == "Job":
        return f"a Job's template cannot be edited: kubectl delete {where}, mend the manifest, and apply it again"
    return f"mend its pod template: kubectl edit {where}; its pods are then made by themselves"
