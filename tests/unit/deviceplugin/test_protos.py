"""The committed gRPC stubs are what the committed protos generate."""

from pathlib import Path

from hack import protos


def test_the_committed_stubs_are_what_the_protos_generate(tmp_path: Path) -> None:
    protos.generate(tmp_path)

    assert protos.stubs(tmp_path) == protos.stubs(protos.SOURCE_ROOT)
