"""Container images without a registry: archives in docker's format, written here and imported into each node.

The Python base is the distribution's own Python, extracted once with mmdebstrap and kept in the cache.
"""

import hashlib
import io
import json
import os
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hack.cluster import binaries
from hack.cluster.command import program, run
from hack.cluster.errors import CommandError
from hack.cluster.paths import cache
from hack.cluster.progress import Progress

PAUSE = "local/pause:1"
BUSYBOX = "local/busybox:1"
ENGINE = "local/arbiter-engine:1"

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_PYTHON_SECONDS = 600
_NOT_NEEDED = (
    "/usr/share/*",
    "/usr/lib/*/gconv/*",
    "/usr/lib/*/perl*",
    "/usr/lib/python3*/idlelib/*",
    "/usr/lib/python3*/test/*",
    "/usr/lib/python3*/pydoc_data/*",
)


def pause(directory: Path) -> Path:
    """Writes the image that holds a pod's namespaces open; a shell does, since it reaps orphans."""
    hold = "trap 'exit 0' TERM INT; while :; do sleep 86400 & wait $!; done"
    return write(
        directory / "pause.tar", PAUSE, layers=[_busybox_layer()], config={"Entrypoint": ["/bin/sh", "-c", hold]}
    )


def busybox(directory: Path) -> Path:
    """Writes an image with a shell and the usual small programs."""
    return write(directory / "busybox.tar", BUSYBOX, layers=[_busybox_layer()], config={"Cmd": ["/bin/sh"]})


def engine_image(directory: Path, files: Mapping[str, Path]) -> Path:
    """Writes an image with Python, a shell and `files` (path in the image: file here), which runs /engine/engine.py.

    The Python base must be there: `ensure_python_base`.
    """
    layers = [python_base().read_bytes(), _busybox_layer(), files_layer(files)]
    config = {"Entrypoint": ["python3", "-u", "/engine/engine.py"]}
    return write(directory / "engine.tar", ENGINE, layers=layers, config=config)


def scheduler_image(directory: Path) -> Path:
    """Writes an image of kube-scheduler under the name that the chart gives it where there is no registry."""
    executable = _File((binaries.directory() / "kube-scheduler").read_bytes(), mode=0o755)
    layer = _tar({"usr/local/bin/kube-scheduler": executable}, folders=("usr", "usr/local", "usr/local/bin"))
    reference = f"kube-scheduler:v{binaries.KUBERNETES_VERSION}"
    return write(directory / "kube-scheduler.tar", reference, layers=[layer], config={"Cmd": ["kube-scheduler"]})


def ensure_python_base(progress: Progress) -> None:
    """Makes the Python base layer unless the cache has it; raises CommandError when mmdebstrap fails."""
    path = python_base()
    if path.exists():
        return
    progress.say("making the Python base image with mmdebstrap (once, about 10 s)")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".unfinished-{os.getpid()}.tar")
    run(["mmdebstrap", *_recipe(), str(unfinished)], seconds=_PYTHON_SECONDS)
    unfinished.rename(path)


def digest(archive: Path) -> str:
    """Returns the SHA-256 of an archive's image configuration, by which container runtimes know the image."""
    with tarfile.open(archive) as opened:
        manifest = opened.extractfile("manifest.json")
        if manifest is None:
            raise CommandError(f"{archive} is no image archive: its manifest.json is no file.")
        return str(json.load(manifest)[0]["Config"]).removesuffix(".json")


def write(archive: Path, reference: str, *, layers: Sequence[bytes], config: Mapping[str, Sequence[str]]) -> Path:
    """Writes an image of uncompressed layers (tar archives) and returns the archive."""
    digests = [hashlib.sha256(layer).hexdigest() for layer in layers]
    configuration = json.dumps(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "WorkingDir": "/", **config},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        }
    ).encode()
    identity = hashlib.sha256(configuration).hexdigest()
    manifest = [
        {
            "Config": f"{identity}.json",
            "RepoTags": [reference],
            "Layers": [f"{layer}/layer.tar" for layer in digests],
        }
    ]
    parts = {f"{name}/layer.tar": layer for name, layer in zip(digests, layers, strict=True)}
    content = {
        "manifest.json": json.dumps(manifest).encode(),
        **parts,
        f"{identity}.json": configuration,
    }
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.write_bytes(_tar({name: _File(data) for name, data in content.items()}))
    return archive


@dataclass(frozen=True)
class _File:
    data: bytes
    mode: int = 0o644


def _tar(files: Mapping[str, _File], links: Mapping[str, str] | None = None, folders: Sequence[str] = ()) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in folders:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            archive.addfile(entry)
        for path, file in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(file.data), file.mode
            archive.addfile(entry, io.BytesIO(file.data))
        for path, target in (links or {}).items():
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return buffer.getvalue()


def _busybox_layer() -> bytes:
    path = program("busybox")
    applets = run([path, "--list"], seconds=10).split()
    links = {f"bin/{name}": "busybox" for name in applets if name != "busybox"}
    executable = _File(Path(path).read_bytes(), mode=0o755)
    return _tar({"bin/busybox": executable}, links=links, folders=("bin", "etc", "tmp"))


def files_layer(files: Mapping[str, Path]) -> bytes:
    """Returns a layer with the files at their paths (path in the image: file here), the same for the same content."""
    content = {path.lstrip("/"): _File(source.read_bytes()) for path, source in sorted(files.items())}
    folders = {str(folder) for path in content for folder in Path(path).parents if str(folder) != "."}
    return _tar(content, folders=sorted(folders))


def python_base() -> Path:
    """Returns where the Python base layer is kept, by a name that changes with its recipe."""
    digest_of_recipe = hashlib.sha256(" ".join(_recipe()).encode()).hexdigest()[:8]
    return cache() / "images" / f"python-{digest_of_recipe}.layer.tar"


def _recipe() -> list[str]:
    # Bytecode is compiled here: each container would otherwise spend its first second on that.
    compile_all = 'cd "$1" && chroot "$1" python3 -m compileall -q usr/lib/python3.*'
    return [
        "--quiet",
        # Packages are only unpacked, no maintainer script runs: seconds instead of a minute, and no init system.
        "--variant=extract",
        "--include=python3-venv,dash,libstdc++6",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in _NOT_NEEDED),
        # What a new environment gets its pip from.
        "--dpkgopt=path-include=/usr/share/python-wheels/*",
        f"--customize-hook={compile_all}",
        platform.freedesktop_os_release()["VERSION_CODENAME"],
    ]
