"""Checks of the control plane's side: API server, custom resources, operator, scheduler, rights. Pure."""

from collections.abc import Iterable
from datetime import UTC, timedelta

from arbiter_cli.doctor.facts import Check, CrdState, Facts, Unread, Verdict, upgrade
from arbiter_cli.doctor.kinds import ReplicatedSet
from arbiter_cli.printing import age
from arbiter_kube.api import SCHEDULER_NAME, VERSION
from arbiter_kube.api.objects import Lease, PodPhase
from arbiter_kube.api.qualitypolicy import DEFAULT_POLICY_NAME

OLDEST_MINOR = 32
"""Of Kubernetes 1: node names in agents' tokens and ValidatingAdmissionPolicy."""

_SLACK = timedelta(seconds=5)
"""By which this machine's clock may differ from the cluster's."""

_UNSEEN_AFTER = 10.0
"""Seconds after which kube-scheduler has looked at every pod of its own."""

SHOWN = 5
"""Of a list of things that are wrong, how many are named."""

_COMPONENT = "app.kubernetes.io/component"


def skipped(name: str, what: str, unread: Unread) -> Check:
    """A check that could not be made."""
    return Check(name=name, verdict=Verdict.SKIP, text=f"{what}: {unread.reason}")


def some(lines: Iterable[str]) -> tuple[str, ...]:
    """The first few, and how many more there are."""
    everything = list(lines)
    rest = len(everything) - SHOWN
    return (*everything[:SHOWN], *([f"and {rest} more"] if rest > 0 else []))


def check_presence(facts: Facts) -> Check | None:
    """That Arbiter is not here at all, which makes every other check pointless; None where anything of it is."""
    if isinstance(facts.crds, Unread) or {*facts.crds.values()} != {CrdState.MISSING} or facts.webhook is not None:
        return None
    server = f"API server {facts.version.git_version.removeprefix('v')}"
    install = f"helm install arbiter charts/arbiter -n {facts.namespace} --create-namespace"
    return Check(
        name="api",
        verdict=Verdict.FAIL,
        text=f"Arbiter is not installed: {server} serves none of its CRDs",
        remedies=(f"{install}   (docs/install.md says with which values)",),
    )


def check_server(facts: Facts) -> Check:
    """The API server's version, and the custom resources that it serves."""
    version = facts.version
    minor = "".join(filter(str.isdigit, version.minor)) or "0"
    server = f"API server {version.git_version.removeprefix('v')}"
    if version.major == "1" and int(minor) < OLDEST_MINOR:
        needed = f"{server} is too old: Arbiter needs Kubernetes 1.{OLDEST_MINOR}"
        return Check(name="api", verdict=Verdict.FAIL, text=needed, remedies=("upgrade the control plane",))
    if isinstance(facts.crds, Unread):
        return skipped("api", f"{server}, CRDs", facts.crds)
    wrong = {name: state for name, state in facts.crds.items() if state is not CrdState.SAME}
    if not wrong:
        return Check(name="api", verdict=Verdict.OK, text=f"{server}, CRDs {VERSION} served")
    details = tuple(
        f"{name} is not served" if state is CrdState.MISSING else f"{name} is that of another version of Arbiter"
        for name, state in wrong.items()
    )
    return Check(
        name="api",
        verdict=Verdict.FAIL,
        text=f"{server}, {len(wrong)} of {len(facts.crds)} CRDs are not those of arbiter {facts.own_version}",
        details=details,
        remedies=("arbiter crds | kubectl apply --server-side --force-conflicts -f -",),
    )


def check_operator(facts: Facts) -> Check:
    """Whether an operator leads, and as many are ready as are wanted."""
    if isinstance(facts.lease, Unread):
        return skipped("operator", "operator", facts.lease)
    ready, short = _ready(facts, "operator")
    logs = f"kubectl -n {facts.namespace} logs -l {_COMPONENT}=operator --tail=50"
    leader = _leader(facts.lease, facts)
    if leader is None:
        holder = "nobody ever led" if facts.lease is None else _silence(facts.lease, facts)
        return Check(
            name="operator",
            verdict=Verdict.FAIL,
            text=f"operator{ready}: {holder}, so no target changes and no pod that asks for GPU memory is admitted",
            remedies=(f"kubectl -n {facts.namespace} get pods -l {_COMPONENT}=operator", logs),
        )
    verdict, remedies = (Verdict.WARN, (logs,)) if short else (Verdict.OK, ())
    return Check(name="operator", verdict=verdict, text=f"operator{ready}, {leader}", remedies=remedies)


def _leader(lease: Lease | None, facts: Facts) -> str | None:
    """That somebody leads; None where nobody does."""
    if lease is None or not lease.spec.holder_identity or lease.spec.renew_time is None:
        return None
    since = facts.at - lease.spec.renew_time.astimezone(UTC)
    if since > timedelta(seconds=lease.spec.lease_duration_seconds or 0) + _SLACK:
        return None
    return f"leader renewed {age(since.total_seconds())} ago"


def _silence(lease: Lease, facts: Facts) -> str:
    if not lease.spec.holder_identity or lease.spec.renew_time is None:
        return "the last leader gave up, and none followed"
    since = (facts.at - lease.spec.renew_time.astimezone(UTC)).total_seconds()
    return f"its leader {lease.spec.holder_identity} was last heard of {age(since)} ago"


def _ready(facts: Facts, component: str) -> tuple[str, bool]:
    """`` 2/2`` where a Deployment says so, and whether that is too few."""
    if isinstance(facts.deployments, Unread):
        return "", False
    found = [one for one in facts.deployments if one.metadata.labels.get(_COMPONENT) == component]
    ready, wanted = sum(one.status.ready_replicas for one in found), sum(map(_wanted, found))
    return (f" {ready}/{wanted}", ready < wanted) if found else ("", False)


def _wanted(one: ReplicatedSet) -> int:
    return one.spec.replicas


def check_scheduler(facts: Facts) -> Check:
    """Whether the second kube-scheduler looks at the pods that are its own."""
    if isinstance(facts.snapshot, Unread):
        return skipped("scheduler", SCHEDULER_NAME, facts.snapshot)
    ready, short = _ready(facts, "scheduler")
    unseen = [
        pod
        for pod in facts.snapshot.pods.values()
        if pod.spec.scheduler_name == SCHEDULER_NAME
        and pod.node is None
        and pod.status.phase is PodPhase.PENDING
        and not pod.is_terminating
        and not any(condition.type == "PodScheduled" for condition in pod.status.conditions)
        and pod.metadata.creation_timestamp is not None
        and facts.snapshot.at - pod.metadata.creation_timestamp.timestamp() > _UNSEEN_AFTER
    ]
    logs = f"kubectl -n {facts.namespace} logs -l {_COMPONENT}=scheduler --all-containers --tail=50"
    if unseen:
        return Check(
            name="scheduler",
            verdict=Verdict.FAIL,
            text=f"{SCHEDULER_NAME}{ready} does not look at its pods: {_count(len(unseen), 'waits', 'wait')} unseen",
            details=(f"the first is {min(unseen, key=lambda pod: pod.key).key}",),
            remedies=(f"kubectl -n {facts.namespace} get pods -l {_COMPONENT}=scheduler", logs),
        )
    waiting = len(facts.snapshot.queue)
    seen = f"every pod of its own was looked at, {waiting} {'waits' if waiting == 1 else 'wait'} for room"
    # Who may not ask pods through the API server, or asks before the first pod came, has the check without it.
    pace = f", filter p99 {facts.filter_p99 * 1000:.3g}ms" if isinstance(facts.filter_p99, float) else ""
    verdict, remedies = (Verdict.WARN, (logs,)) if short else (Verdict.OK, ())
    return Check(name="scheduler", verdict=verdict, text=f"{SCHEDULER_NAME}{ready}{pace}: {seen}", remedies=remedies)


def _count(number: int, singular: str, plural: str) -> str:
    return f"1 pod {singular}" if number == 1 else f"{number} pods {plural}"


def check_rights(facts: Facts) -> Check:
    """Whether the service accounts may do what they do."""
    if isinstance(facts.missing_rights, Unread):
        return skipped("rights", "rights of the service accounts", facts.missing_rights)
    if not facts.missing_rights:
        return Check(name="rights", verdict=Verdict.OK, text="service accounts have every right that they use")
    return Check(
        name="rights",
        verdict=Verdict.FAIL,
        text=f"service accounts lack {len(facts.missing_rights)} of the rights that they use",
        details=some(facts.missing_rights),
        remedies=(upgrade(facts.namespace),),
    )


def check_policies(facts: Facts) -> Check:
    """The policy that counts before a pod's node is known, and those that no node follows."""
    if isinstance(facts.snapshot, Unread):
        return skipped("policies", "quality policies", facts.snapshot)
    cluster = facts.snapshot.cluster
    if cluster.default_policy is None:
        return Check(
            name="policies",
            verdict=Verdict.WARN,
            text=f"there is no QualityPolicy {DEFAULT_POLICY_NAME}: built-in defaults are in force",
            remedies=(upgrade(facts.namespace),),
        )
    followed = {policy.metadata.name for name in cluster.reports if (policy := cluster.policy_of(name)) is not None}
    idle = sorted({*cluster.policies} - followed - {DEFAULT_POLICY_NAME})
    if idle:
        return Check(
            name="policies",
            verdict=Verdict.WARN,
            text=f"no node follows QualityPolicy {', '.join(idle)}",
            remedies=("compare its nodeSelector with: kubectl get nodes --show-labels",),
        )
    mode = cluster.default_policy.spec.mode
    return Check(name="policies", verdict=Verdict.OK, text=f"QualityPolicy {DEFAULT_POLICY_NAME}: mode {mode}")
