"""The generated CRDs and the converter behind them."""

import argparse
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from arbiter_cli import crds as command
from arbiter_kube.api.crds import SchemaError, manifests, object_schema, structural

CRDS = Path(__file__).parents[3] / "crds"


def test_the_committed_crds_are_what_the_models_say() -> None:
    committed = {path.name: path.read_text() for path in CRDS.glob("*.yaml")}
    assert committed == manifests(), "run: arbiter crds --directory crds"


class Inner(BaseModel):
    """Inside."""

    size: int


FORMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "an optional value is one that may be left out": (int | None, {"type": "integer", "format": "int64"}),
    "a choice of one is an enum": (Literal["a"], {"type": "string", "enum": ["a"]}),
    "a bound that is excluded is OpenAPI's": (
        Annotated[float, Field(gt=0, lt=1)],
        {"type": "number", "minimum": 0, "exclusiveMinimum": True, "maximum": 1, "exclusiveMaximum": True},
    ),
    "a set is a list type": (
        Annotated[set[str], Field(max_length=3)],
        {"type": "array", "items": {"type": "string"}, "maxItems": 3, "x-kubernetes-list-type": "set"},
    ),
    "a map keeps the schema of its values": (
        Annotated[dict[str, str], Field(max_length=3)],
        {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 3},
    ),
    "a model stands where it is used": (
        Inner | None,
        {
            "type": "object",
            "description": "Inside.",
            "properties": {"size": {"type": "integer", "format": "int64"}},
            "required": ["size"],
        },
    ),
}


@pytest.mark.parametrize(("kind", "schema"), FORMS.values(), ids=FORMS)
def test_a_field_becomes_structural(kind: Any, schema: dict[str, Any]) -> None:
    class Model(BaseModel):
        field: kind

    assert structural(Model.model_json_schema())["properties"]["field"] == schema


def test_what_no_structural_schema_can_say_is_refused() -> None:
    class Model(BaseModel):
        field: tuple[int, str]

    with pytest.raises(SchemaError, match=r"^a structural schema has no prefixItems"):
        structural(Model.model_json_schema())


def test_a_spec_has_defaults_and_a_status_none() -> None:
    class Part(BaseModel):
        count: int = 3

    class Model(BaseModel):
        metadata: dict[str, str]
        spec: Part
        status: Part

    schema = object_schema(Model)
    count = {"type": "integer", "format": "int64"}
    assert schema["properties"] == {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": {"type": "object", "properties": {"count": count | {"default": 3}}},
        "status": {"type": "object", "properties": {"count": count}},
    }


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(arguments)


def test_the_command_writes_a_file_for_each_crd(tmp_path: Path) -> None:
    assert command.run(parsed("--directory", str(tmp_path / "new"))) == 0
    assert {path.name: path.read_text() for path in (tmp_path / "new").iterdir()} == manifests()


def test_the_command_prints_one_stream_of_documents(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(parsed()) == 0
    assert capsys.readouterr().out.split("---\n") == list(manifests().values())


def test_the_command_says_where_it_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert command.run(parsed("--directory", str(tmp_path / "file"))) == 2
    assert capsys.readouterr().err == f"arbiter crds: {tmp_path}/file cannot be written: File exists.\n"
