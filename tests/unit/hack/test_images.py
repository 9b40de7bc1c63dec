import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

from hack.cluster import images


def test_an_archive_says_what_a_container_runtime_asks(tmp_path: Path) -> None:
    archive = images.write(tmp_path / "image.tar", "local/x:1", layers=[b"layer"], config={"Cmd": ["/x"]})
    layer = hashlib.sha256(b"layer").hexdigest()
    digest = images.digest(archive)
    with tarfile.open(archive) as opened:
        content = {member.name: read(opened, member.name) for member in opened}
    assert json.loads(content.pop("manifest.json")) == [
        {"Config": f"{digest}.json", "RepoTags": ["local/x:1"], "Layers": [f"{layer}/layer.tar"]}
    ]
    configuration = content.pop(f"{digest}.json")
    assert hashlib.sha256(configuration).hexdigest() == digest
    assert json.loads(configuration) == {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
        "os": "linux",
        "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "WorkingDir": "/", "Cmd": ["/x"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
    }
    assert content == {f"{layer}/layer.tar": b"layer"}


def test_a_layer_holds_files_and_their_folders(tmp_path: Path) -> None:
    source = tmp_path / "source.py"
    source.write_text("print()")
    with tarfile.open(fileobj=io.BytesIO(images.files_layer({"/engine/arbiter/client.py": source}))) as layer:
        assert layer.getnames() == ["engine", "engine/arbiter", "engine/arbiter/client.py"]
        assert read(layer, "engine/arbiter/client.py") == b"print()"


def test_a_layer_is_the_same_for_the_same_content(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("same")
    other.write_text("same")
    assert images.files_layer({"/a": one, "/b": one}) == images.files_layer({"/b": other, "/a": other})


def read(archive: tarfile.TarFile, name: str) -> bytes:
    opened = archive.extractfile(name)
    assert opened is not None
    return opened.read()
