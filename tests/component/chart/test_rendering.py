"""What the chart makes is what API servers take, from the oldest supported release of Kubernetes to the newest."""

import argparse
import importlib
import json
import tomllib
from functools import cache

import kubernetes_validate
import pytest
import yaml

from arbiter.workload import Priority
from arbiter_cli.main import COMMANDS
from arbiter_kube.api import annotations as a
from arbiter_kube.api.crds import manifests
from arbiter_operator.admission.classes import PREEMPTION_POLICY, priority_class
from hack.cluster.chart import CHART, NAMESPACE, Object, helm
from hack.cluster.paths import REPOSITORY
from tests.component.chart.support import CHOICES, containers, of_kind, pod_specs, rendered

RELEASES = ("1.32", "1.33", "1.34", "1.35", "1.36")
PROCESSES = {"operator", "extender", "device-plugin"}
OF_OTHERS = {"QualityPolicy", "PodMonitor", "PrometheusRule", "Certificate", "Issuer"}
"""Kinds of custom resources, which Kubernetes' own schemas do not have."""
CLUSTER_WIDE = {
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "MutatingWebhookConfiguration",
    "PriorityClass",
    "QualityPolicy",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}


@pytest.fixture
def schemas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read once for each release: every object is otherwise told by schemas of 2 MB that are read anew."""
    monkeypatch.setattr(kubernetes_validate.utils, "schema_contents", cache(kubernetes_validate.utils.schema_contents))


@pytest.mark.usefixtures("schemas")
@pytest.mark.parametrize("release", RELEASES)
def test_api_servers_know_every_field(release: str) -> None:
    different = {json.dumps(one) for choice in CHOICES for one in rendered(choice) if one["kind"] not in OF_OTHERS}
    for one in different:
        kubernetes_validate.validate(json.loads(one), release, strict=True)


def test_the_chart_is_clean() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))


def test_its_version_is_that_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert (chart["version"], chart["appVersion"]) == (version, version)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_object_says_whose_it_is_and_where(choice: str) -> None:
    for one in rendered(choice):
        metadata = one["metadata"]
        assert metadata["labels"]["app.kubernetes.io/part-of"] == "arbiter"
        assert ("namespace" in metadata) == (one["kind"] not in CLUSTER_WIDE), metadata["name"]
    elsewhere = {one["metadata"]["name"]: one["metadata"].get("namespace", NAMESPACE) for one in rendered(choice)}
    assert {name: where for name, where in elsewhere.items() if where != NAMESPACE} == {
        "arbiter-scheduler-authentication-reader": "kube-system",
        "arbiter-test": "default",
    }


def test_custom_resource_definitions_are_the_models_and_stay_when_the_release_goes() -> None:
    def without_metadata(one: Object) -> Object:
        return {**one, "metadata": {"name": one["metadata"]["name"]}}

    made = of_kind("CustomResourceDefinition")
    models = {one["metadata"]["name"]: without_metadata(one) for one in map(yaml.safe_load, manifests().values())}
    assert {name: without_metadata(one) for name, one in made.items()} == models
    assert {one["metadata"]["annotations"]["helm.sh/resource-policy"] for one in made.values()} == {"keep"}
    gone = of_kind("CustomResourceDefinition", "everything that can be added")
    assert not any("annotations" in one["metadata"] for one in gone.values())


def test_there_is_a_priority_class_for_each_priority() -> None:
    installed = {(name, one["value"], one["preemptionPolicy"]) for name, one in of_kind("PriorityClass").items()}
    classes = [priority_class(priority) for priority in Priority]
    assert installed == {(chosen.name, chosen.value, PREEMPTION_POLICY) for chosen in classes}


def test_the_admission_policy_guards_every_key_that_arbiter_writes() -> None:
    variables = of_kind("ValidatingAdmissionPolicy")["arbiter-annotations"]["spec"]["variables"]
    guarded = next(variable for variable in variables if variable["name"] == "guarded")
    names = [key.removeprefix("arbiter.infernum.io/") for key in a.ARBITER_KEYS if key != a.DEMAND]
    assert guarded["expression"].startswith(str(names))
    assert f"['{a.DEMAND}']" in guarded["expression"]


@pytest.mark.parametrize("choice", CHOICES)
def test_every_process_takes_its_flags(choice: str) -> None:
    commands = own_commands(choice)
    assert {name for name, *_ in commands} == PROCESSES
    for name, *flags in commands:
        parser_of(name).parse_args(flags)


def test_every_flag_has_a_value() -> None:
    given = {flag.partition("=")[0] for choice in CHOICES for command in own_commands(choice) for flag in command}
    # A pod has its service account, and with the node's process ids the node's /proc.
    not_needed = {"--kubeconfig", "--proc-dir"}
    for process in PROCESSES:
        flags = {f"--{name.replace('_', '-')}" for name in vars(parser_of(process).parse_args([]))}
        assert flags - given == not_needed & flags


def own_commands(choice: str) -> list[list[str]]:
    """The command lines of Arbiter's processes."""
    own = (one for spec in pod_specs(choice).values() for one in containers(spec) if "arbiter" in one["image"])
    return [one["args"] for one in own if "args" in one]


def parser_of(process: str) -> argparse.ArgumentParser:
    """What reads a process's flags; it raises where one is wrong."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    importlib.import_module(COMMANDS[process].module).add_arguments(parser)
    return parser


def test_the_second_scheduler_always_asks_the_extender() -> None:
    config = yaml.safe_load(of_kind("ConfigMap")["arbiter-scheduler"]["data"]["scheduler.yaml"])
    assert config["percentageOfNodesToScore"] == 100
    assert [profile["schedulerName"] for profile in config["profiles"]] == ["arbiter-scheduler"]
    (extender,) = config["extenders"]
    assert extender["ignorable"] is False
    assert extender["nodeCacheCapable"] is True
    assert extender["managedResources"] == [{"name": "arbiter.infernum.io/vram", "ignoredByScheduler": False}]
    # kube-scheduler scales an extender's 0..10 to 0..100; its own plugins' weights add up to 12.
    assert 10 * 10 * extender["weight"] > 100 * 12
    assert config["podMaxBackoffSeconds"] == 2, "room that appears is used within two seconds"
    # By default 50 calls a second: hundreds of waiting pods would hold up all others.
    assert config["clientConnection"]["qps"] >= 500


def test_images_come_from_where_the_values_say() -> None:
    def images(choice: str) -> set[str]:
        return {one["image"] for spec in pod_specs(choice).values() for one in containers(spec)}

    assert images("the defaults") == {"arbiter:0.1.0", "kube-scheduler:v1.36.0"}
    assert images("a registry of one's own") == {
        f"registry.example.com/infra/arbiter@sha256:{'0' * 64}",
        "kubernetes.example.com/kube-scheduler:v1.34.1",
    }
