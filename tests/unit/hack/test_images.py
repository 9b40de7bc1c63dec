import json
import tarfile
from pathlib import Path

from hack.cluster import images


def test_an_archive_holds_what_the_runtime_looks_for(tmp_path: Path) -> None:
    archive = images.busybox(tmp_path)
    with tarfile.open(archive) as opened:
        manifest = json.load(opened.extractfile("manifest.json") or archive.open())
        (entry,) = manifest
        assert entry["RepoTags"] == [images.BUSYBOX]
        config = json.load(opened.extractfile(entry["Config"]) or archive.open())
        assert config["config"]["Cmd"] == ["/bin/sh"]
        layer = opened.extractfile(entry["Layers"][0])
        assert layer is not None
        with tarfile.open(fileobj=layer) as files:
            assert files.getmember("bin/busybox").mode == 0o755
            assert files.getmember("bin/sh").linkname == "busybox"
            assert files.getmember("tmp").mode == 0o1777


def test_the_same_content_has_the_same_digest(tmp_path: Path) -> None:
    first, second = images.busybox(tmp_path / "a"), images.busybox(tmp_path / "b")
    assert images.digest(first) == images.digest(second)
    assert images.digest(first) != images.digest(images.pause(tmp_path))
