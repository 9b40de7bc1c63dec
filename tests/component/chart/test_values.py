"""The values' schema: complete, so that a typo is an error and not a default."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from arbiter_kube.api.crds import manifests
from hack.cluster.chart import CHART, render
from hack.cluster.errors import CommandError
from tests.component.chart.support import CHOICES

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a misspelt value": ({"operator": {"replica": 3}}, "at '/operator': additional properties 'replica' not allowed"),
    "a unit of decimal megabytes": ({"vramUnit": "1GB"}, "at '/vramUnit': '1GB' does not match pattern"),
    "a backend that does not exist": ({"gpuBackend": "cuda"}, "at '/gpuBackend': value must be one of"),
    "no replica": ({"operator": {"replicas": 0}}, "at '/operator/replicas': minimum: got 0, want 1"),
    "a policy's field that does not exist": ({"policy": {"modus": "Fixed"}}, "at '/policy'"),
    "a policy's mode that does not exist": ({"policy": {"mode": "Fair"}}, "at '/policy/mode'"),
    "calls that are no number": (
        {"scheduler": {"kubeScheduler": {"clientConnection": {"qps": "many"}}}},
        "at '/scheduler/kubeScheduler/clientConnection/qps'",
    ),
    "a registry with its scheme": ({"image": {"registry": "https://example.com"}}, "at '/image/registry'"),
}


@pytest.mark.parametrize(("values", "sentence"), WRONG.values(), ids=WRONG.keys())
def test_wrong_values_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CommandError) as refused:
        render(values)
    assert sentence in str(refused.value)


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES.keys())
def test_every_choice_is_allowed(choice: dict[str, Any]) -> None:
    jsonschema.validate(choice, SCHEMA)


def objects(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object with fields of its own, by its path."""
    if "properties" in schema:
        yield path, schema
        for name, field in schema["properties"].items():
            yield from objects(field, f"{path}/{name}")


OBJECTS = dict(objects(SCHEMA))


@pytest.mark.parametrize("path", OBJECTS)
def test_every_object_knows_all_of_its_fields_and_says_what_they_mean(path: str) -> None:
    schema = OBJECTS[path]
    assert schema["additionalProperties"] is False
    if not path.startswith("/policy"):
        assert [name for name, field in schema["properties"].items() if not field.get("description")] == []
        value = VALUES
        for name in path.split("/")[1:]:
            value = value[name]
        assert value.keys() == schema["properties"].keys() - {"global"}


def test_a_policy_has_the_fields_that_the_api_server_takes() -> None:
    text = next(text for name, text in manifests().items() if "qualitypolicies" in name)
    (version,) = yaml.safe_load(text)["spec"]["versions"]
    spec = closed(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
    policy = SCHEMA["properties"]["policy"]
    assert policy == {**spec, "type": ["object", "null"], "description": policy["description"]}


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """A CRD's schema as JSON schema has it now: without Kubernetes' own words, and no field beside those listed."""
    kept = {key: value for key, value in schema.items() if key != "format" and not key.startswith("x-kubernetes-")}
    if kept.get("exclusiveMinimum"):
        kept["exclusiveMinimum"] = kept.pop("minimum")
    if "properties" in kept:
        kept["properties"] = {name: closed(field) for name, field in kept["properties"].items()}
        kept["additionalProperties"] = False
    return kept
