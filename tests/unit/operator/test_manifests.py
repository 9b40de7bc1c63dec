from typing import Any

import yaml

from arbiter.workload import Priority
from arbiter_kube.api import annotations as a
from arbiter_operator.admission.classes import PREEMPTION_POLICY, priority_class
from hack.cluster.paths import REPOSITORY


def documents(name: str) -> list[dict[str, Any]]:
    text = (REPOSITORY / "hack" / "manifests" / f"{name}.yaml").read_text()
    return list(yaml.safe_load_all(text))


def test_there_is_a_priority_class_for_each_priority() -> None:
    installed = {
        (one["metadata"]["name"], one["value"], one["preemptionPolicy"]) for one in documents("priorityclasses")
    }
    classes = [priority_class(priority) for priority in Priority]
    assert installed == {(chosen.name, chosen.value, PREEMPTION_POLICY) for chosen in classes}


def test_the_admission_policy_guards_every_key_that_arbiter_writes() -> None:
    policy = next(
        one
        for one in documents("admission")
        if (one["kind"], one["metadata"]["name"]) == ("ValidatingAdmissionPolicy", "arbiter-annotations")
    )
    guarded = next(variable for variable in policy["spec"]["variables"] if variable["name"] == "guarded")
    names = [key.removeprefix("arbiter.infernum.io/") for key in a.ARBITER_KEYS if key != a.DEMAND]
    assert guarded["expression"].startswith(str(names))
    assert f"['{a.DEMAND}']" in guarded["expression"]
