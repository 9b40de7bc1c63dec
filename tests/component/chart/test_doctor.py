"""What `arbiter doctor` checks is what the chart installs."""

from itertools import product

from arbiter_cli.doctor.admission import ADMISSION_POLICIES
from arbiter_cli.doctor.rights import RIGHTS
from tests.component.chart.support import of_kind

ACCOUNTS = {
    "arbiter-operator": "arbiter-operator",
    "arbiter-device-plugin": "arbiter-device-plugin",
    "arbiter-extender": "arbiter-scheduler",
}
"""Service accounts by the name of their role."""


def test_the_rights_that_are_checked_are_those_that_are_given() -> None:
    roles = [*of_kind("ClusterRole").values(), *of_kind("Role").values()]
    given = {
        (ACCOUNTS[role["metadata"]["name"]], verb, group, resource)
        for role in roles
        if role["metadata"]["name"] in ACCOUNTS
        for rule in role["rules"]
        for verb, group, resource in product(rule["verbs"], rule["apiGroups"], rule["resources"])
    }
    checked = {(right.account, verb, right.group, right.resource) for right in RIGHTS for verb in right.verbs}
    of_kubernetes = {right for right in checked if right[0] == "arbiter-scheduler" and not right[2]}
    assert checked - of_kubernetes == given


def test_the_guards_that_are_checked_are_those_that_are_installed() -> None:
    assert of_kind("ValidatingAdmissionPolicy").keys() == {*ADMISSION_POLICIES}
