"""Builds Arbiter's image with whatever builds images here: `python -m hack.image`.

docker and podman take the Python base from their registry. buildah needs none: its base is the distribution's own
Python, which the cache keeps, as it keeps the layers; what it builds is an archive.
"""

import argparse
import ast
import fcntl
import os
import shutil
import sys
import tempfile
from pathlib import Path

from hack.cluster import images, packages
from hack.cluster.chart import CHART
from hack.cluster.command import run
from hack.cluster.errors import CannotRunError, ClusterError, CommandError
from hack.cluster.paths import REPOSITORY, cache, digest_of
from hack.cluster.progress import Progress

VERSION = next(
    line.split()[1] for line in (CHART / "Chart.yaml").read_text().splitlines() if line.startswith("appVersion:")
)
ARCHIVE = REPOSITORY / "build" / "image" / "arbiter.tar"

_SOURCES = ("Containerfile", "pyproject.toml", "README.md", "LICENSE")
_PACKAGES = ("arbiter", "kube", "extender", "deviceplugin", "operator", "cli")
_KEPT = 4
_STORAGE = cache() / "buildah"
_STAGES = {stage: f"localhost/arbiter-{stage}:latest" for stage in ("packages", "runtime")}
_BUILD_SECONDS = 900.0
_PROBE_SECONDS = 20.0
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "default-timeout")


def build(name: str, progress: Progress) -> str:
    """Builds the image and returns a sentence that says where it is.

    Raises:
        CannotRunError: nothing here builds images.
        CommandError: the build failed.
    """
    tool = next((tool for tool in ("docker", "podman") if _works(tool)), None)
    if tool is None:
        build_archive(name, ARCHIVE, progress)
        return f"{name} is in {ARCHIVE}; nodes import it with: ctr -n k8s.io images import FILE"
    progress.say(f"building {name} with {tool}")
    command = [tool, "build", "--quiet", f"--tag={name}", f"--file={REPOSITORY / 'Containerfile'}", str(REPOSITORY)]
    run(command, seconds=_BUILD_SECONDS)
    return f"{name} is in {tool}'s store; where your registry is in the name, send it there: {tool} push {name}"


def content_tag() -> str:
    """Returns the version with a digest of all that the image is made of: another tag for each content."""
    paths = [REPOSITORY / name for name in _SOURCES]
    paths += [path for name in _PACKAGES for path in (REPOSITORY / name).rglob("*") if path.suffix != ".pyc"]
    paths += (REPOSITORY / "requirements").iterdir()
    files = (path for path in paths if path.is_file())
    return f"{VERSION}-{digest_of(files, root=REPOSITORY, beside=images.python_base().name)}"


def ensure_archive(progress: Progress) -> Path:
    """Returns the archive of the image `arbiter:` with `content_tag()`, which is built unless the cache has it.

    Raises:
        CannotRunError, CommandError: as `build_archive`.
    """
    tag = content_tag()
    archive = cache() / "images" / f"arbiter-{tag}.tar"
    if not archive.exists():
        build_archive(f"arbiter:{tag}", archive, progress)
    # The latest used are kept: several checkouts take turns.
    archive.touch()
    known = sorted(archive.parent.glob("arbiter-*.tar"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in known[_KEPT:]:
        old.unlink(missing_ok=True)
    return archive


def build_archive(name: str, archive: Path, progress: Progress) -> None:
    """Builds the image with buildah into an archive, which has docker's format.

    Raises:
        CannotRunError: buildah, or what makes its base, is missing and cannot be installed from here.
        CommandError: the build failed.
    """
    if os.geteuid() != 0:
        raise CannotRunError("Without docker or podman the image is built by buildah, which needs root here.")
    packages.ensure(progress)
    images.ensure_python_base(progress)
    base = f"localhost/python:{images.python_base().name.split('.')[0]}"
    _STORAGE.mkdir(parents=True, exist_ok=True)
    archive.parent.mkdir(parents=True, exist_ok=True)
    # The store is shared by all checkouts: none removes what another is about to read.
    with tempfile.TemporaryDirectory() as directory, (_STORAGE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _ensure_base(base, Path(directory))
        progress.say(f"building {name} with buildah (a minute or two the first time)")
        # Under names of their own, pruning leaves the layers that the next build begins with.
        for stage, built in _STAGES.items():
            _build_upon(base, Path(directory), f"--tag={built}", f"--target={stage}")
        unfinished = archive.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        _buildah("push", "--quiet", _STAGES["runtime"], f"docker-archive:{unfinished}:{name}")
        unfinished.rename(archive)
        _buildah("rmi", "--prune")


def _works(tool: str) -> bool:
    """Says whether a builder is here, and its daemon too where it has one."""
    if shutil.which(tool) is None:
        return False
    try:
        run([tool, "info"], seconds=_PROBE_SECONDS)
    except CommandError:
        return False
    return True


def _ensure_base(base: str, directory: Path) -> None:
    if base in _buildah("images", "--format={{.Name}}:{{.Tag}}").split():
        return
    (directory / "Containerfile").write_text(f"FROM scratch\nADD {images.python_base().name} /\n")
    context = str(images.python_base().parent)
    _buildah("build", "--quiet", f"--tag={base}", f"--file={directory / 'Containerfile'}", context)


def _build_upon(base: str, directory: Path, *flags: str) -> None:
    settings = directory / "pip.conf"
    settings.write_text(_pip_settings())
    _buildah(
        *("build", "--quiet", "--layers", f"--build-arg=PYTHON_IMAGE={base}", *flags),
        # Packages come from where this machine's pip gets them.
        f"--volume={settings}:/etc/pip.conf:ro",
        f"--volume={_CERTIFICATES}:{_CERTIFICATES}:ro",
        f"--file={REPOSITORY / 'Containerfile'}",
        str(REPOSITORY),
    )


def _pip_settings() -> str:
    """This machine's pip configuration, as far as it says where packages come from."""
    found: dict[str, str] = {}
    for line in run([sys.executable, "-m", "pip", "config", "list"], seconds=_PROBE_SECONDS).splitlines():
        name, _, value = line.partition("=")
        # The environment's come first, and win.
        found.setdefault(name.rpartition(".")[2], str(ast.literal_eval(value)))
    kept = {name: value for name, value in found.items() if name in _PIP_SETTINGS}
    return "\n".join(["[global]", f"cert = {_CERTIFICATES}", *(f"{name} = {value}" for name, value in kept.items())])


def _buildah(*arguments: str) -> str:
    paths = f'graphroot = "{_STORAGE}/root"\nrunroot = "{_STORAGE}/run"\n'
    configuration = _STORAGE / "storage.conf"
    configuration.write_text(f'[storage]\ndriver = "overlay"\n{paths}')
    # Its other isolation leaves a bridge and packet filter rules behind.
    environment = {"CONTAINERS_STORAGE_CONF": str(configuration), "BUILDAH_ISOLATION": "chroot"}
    return run(["buildah", *arguments], seconds=_BUILD_SECONDS, environment=environment)


def main() -> int:
    """Returns 0, 1 when the build failed, 2 when nothing here can build."""
    parser = argparse.ArgumentParser(prog="python -m hack.image")
    parser.add_argument("--tag", default=f"arbiter:{VERSION}", help="name of the image, with its registry where pushed")
    options = parser.parse_args()
    try:
        print(build(options.tag, Progress()))
    except CannotRunError as error:
        print(error, file=sys.stderr)
        return 2
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
