"""Checks of what lets pods in: the webhook, its certificates, policies and priority classes. Pure."""

from collections.abc import Iterator
from datetime import timedelta

from arbiter.workload import Priority
from arbiter_cli.doctor.facts import Check, Facts, Trial, Unread, Verdict, upgrade
from arbiter_cli.doctor.installation import skipped
from arbiter_cli.doctor.kinds import WebhookConfiguration
from arbiter_cli.printing import age
from arbiter_operator.admission.classes import PREEMPTION_POLICY, priority_class

ADMISSION_POLICIES = (
    "arbiter-annotations",
    "arbiter-revisions",
    "arbiter-gpunodes",
    "arbiter-pod-priorities",
    "arbiter-allocation-priorities",
)

WEBHOOK = "arbiter"

_LONGEST_TIMEOUT = 5
"""Seconds that the creation of a pod may have to wait for an operator that is gone."""

_SOON = timedelta(days=7)


def check_webhook(facts: Facts) -> Check:
    """Whether admission decides on pods that opt in, quickly, and on no others."""
    webhook, trial = facts.webhook, facts.trial
    if isinstance(webhook, Unread):
        return skipped("webhook", "webhook", webhook)
    if webhook is None:
        text = "webhook: not installed, so demands are not frozen, and pods not placed by GPU"
        return Check(name="webhook", verdict=Verdict.FAIL, text=text, remedies=(upgrade(facts.namespace),))
    wrong = [*_misconfigured(webhook), *([] if isinstance(trial, Unread) else _misbehaved(trial))]
    if wrong:
        silent = not isinstance(trial, Unread) and trial.failure
        logs = f"kubectl -n {facts.namespace} logs -l app.kubernetes.io/component=operator --tail=50"
        return Check(
            name="webhook",
            verdict=Verdict.FAIL,
            text="webhook does not do its work",
            details=tuple(wrong),
            remedies=(logs if silent else upgrade(facts.namespace),),
        )
    if isinstance(trial, Unread):
        return skipped("webhook", "webhook limited to opted-in pods, but not tried", trial)
    took = max(0.0, trial.opted_in - trial.plain) * 1000
    return Check(name="webhook", verdict=Verdict.OK, text=f"webhook {took:.0f}ms, limited to opted-in pods")


def _misconfigured(webhook: WebhookConfiguration) -> Iterator[str]:
    hooks = webhook.webhooks
    if not hooks or any(not hook.match_conditions for hook in hooks):
        yield "it is asked about every pod: its matchConditions are gone"
    if any(hook.failure_policy != "Fail" for hook in hooks):
        yield "pods that it cannot decide on are let in: its failurePolicy is not Fail"
    if any(hook.timeout_seconds > _LONGEST_TIMEOUT for hook in hooks):
        yield f"pods may wait for it longer than {_LONGEST_TIMEOUT}s: its timeoutSeconds is above that"


def _misbehaved(trial: Trial) -> Iterator[str]:
    if trial.failure:
        yield f"it does not answer, so pods that ask for GPU memory cannot be created: {trial.failure}"
    elif not trial.opted_in_admitted:
        yield "a pod that opts in (tried without creating it) came through without a demand"
    if not trial.plain_untouched:
        yield "a pod that has nothing to do with Arbiter (tried without creating it) was changed"


def check_certificates(facts: Facts) -> Check:
    """Whether the certificates are valid, and for how long."""
    if isinstance(facts.certificates, Unread):
        return skipped("certificates", "certificates", facts.certificates)
    if not facts.certificates:
        return Check(name="certificates", verdict=Verdict.SKIP, text="certificates: none can be seen from here")
    first = min(facts.certificates, key=lambda one: one.expires)
    left = first.expires - facts.at
    renew = upgrade(facts.namespace, effect="renews the chart's own; others are renewed by what made them")
    if left <= timedelta(0):
        passed = f"certificate of {first.of} expired {age(-left.total_seconds())} ago"
        return Check(name="certificates", verdict=Verdict.FAIL, text=passed, remedies=(renew,))
    text = f"certificates: the first to expire is that of {first.of}, in {age(left.total_seconds())}"
    if left < _SOON:
        return Check(name="certificates", verdict=Verdict.WARN, text=text, remedies=(renew,))
    return Check(name="certificates", verdict=Verdict.OK, text=text)


def check_guards(facts: Facts) -> Check:
    """Whether nobody else may write what Arbiter writes."""
    if isinstance(facts.admission_policies, Unread):
        return skipped("guards", "admission policies", facts.admission_policies)
    missing = [name for name in ADMISSION_POLICIES if name not in facts.admission_policies]
    if missing:
        return Check(
            name="guards",
            verdict=Verdict.FAIL,
            text=f"admission policies missing or not bound: {', '.join(missing)}",
            details=("anybody who may edit pods may grant them memory, or write what nodes report",),
            remedies=(upgrade(facts.namespace),),
        )
    text = f"{len(ADMISSION_POLICIES)} admission policies guard what Arbiter writes"
    return Check(name="guards", verdict=Verdict.OK, text=text)


def check_priority_classes(facts: Facts) -> Check:
    """Whether the classes that pods get are there, and preempt nobody by themselves."""
    if isinstance(facts.priority_classes, Unread):
        return skipped("priorities", "priority classes", facts.priority_classes)
    known = {one.metadata.name: one for one in facts.priority_classes}
    wrong = []
    for expected in map(priority_class, Priority):
        found = known.get(expected.name)
        if found is None:
            wrong.append(f"{expected.name} is missing: pods of this priority are refused")
        elif (found.value, found.preemption_policy) != (expected.value, PREEMPTION_POLICY):
            wrong.append(f"{expected.name} should have value {expected.value}, preemptionPolicy {PREEMPTION_POLICY}")
    if wrong:
        return Check(
            name="priorities",
            verdict=Verdict.FAIL,
            text=f"{len(wrong)} of {len(Priority)} priority classes are not as they should be",
            details=tuple(wrong),
            remedies=(upgrade(facts.namespace),),
        )
    return Check(name="priorities", verdict=Verdict.OK, text=f"{len(Priority)} priority classes")
