"""Generates the gRPC stubs of the kubelet's APIs: `python -m hack.protos`. Needs the development packages.

The files are registered under their path below `deviceplugin/`, since protobuf refuses two of one name and both are
called api.proto; the same path is the import path of the stubs.
"""

import sys
from pathlib import Path

from grpc_tools import protoc

SOURCE_ROOT = Path(__file__).parents[1] / "deviceplugin"
PROTOS = (
    "arbiter_deviceplugin/_proto/deviceplugin/v1beta1/api.proto",
    "arbiter_deviceplugin/_proto/podresources/v1/api.proto",
)
STUB_SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


def generate(target: Path) -> None:
    """Writes the stubs of every proto below `target`.

    Raises:
        RuntimeError: a proto cannot be compiled; protoc has said why on standard error.
    """
    plugins = [f"--plugin=protoc-gen-{name}={Path(sys.prefix) / 'bin' / f'protoc-gen-{name}'}" for name in _PLUGINS]
    outputs = [f"--{name}_out={target}" for name in ("python", "grpc_python", *_PLUGINS)]
    status = protoc.main(["protoc", f"--proto_path={SOURCE_ROOT}", *plugins, *outputs, *PROTOS])
    if status:
        raise RuntimeError(f"protoc ended with status {status}")


_PLUGINS = ("mypy", "mypy_grpc")


def stubs(root: Path) -> dict[str, str]:
    """The text of every stub below `root`, by its path."""
    names = [proto.removesuffix(".proto") + suffix for proto in PROTOS for suffix in STUB_SUFFIXES]
    return {name: (root / name).read_text() for name in names}


if __name__ == "__main__":
    generate(SOURCE_ROOT)
