"""`arbiter device-plugin`: the flags of the node's agent, and its start."""

import argparse
import re
from fractions import Fraction
from pathlib import Path

from arbiter.ids import NodeName
from arbiter_deviceplugin.access import GpuAccess
from arbiter_deviceplugin.agent import COMPONENT, Agent, Settings, serve
from arbiter_deviceplugin.backends import Backend
from arbiter_deviceplugin.backends.nvml import NvmlBackend
from arbiter_deviceplugin.backends.simulated import SimulatedBackend
from arbiter_deviceplugin.carrier import LONGEST_START_WAIT
from arbiter_deviceplugin.directory import LONGEST_SOCKET_PATH, NAME_LENGTH, SOCKET_FILE
from arbiter_deviceplugin.disk import StateError
from arbiter_deviceplugin.kubelet import Kubelet
from arbiter_deviceplugin.registration import longest_socket
from arbiter_deviceplugin.selection import Selection
from arbiter_kube.api.durations import parse_duration
from arbiter_kube.client import KubeClient
from arbiter_kube.client.health import serve_health
from arbiter_kube.client.process import ConfigurationError, add_common_arguments, add_flag, run_process

SHORTEST_START_WAIT = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The agent's flags."""
    add_common_arguments(parser)
    add_flag(parser, "--node", help="name of the node that this is")
    add_flag(parser, "--backend", choices=("nvml", "simulated"), default="nvml", help="where GPUs are read from")
    add_flag(parser, "--simulated-gpus", type=Path, help="YAML file with the GPUs of the simulated backend")
    add_flag(parser, "--kubelet-dir", type=Path, default="/var/lib/kubelet", help="the kubelet's directory")
    add_flag(parser, "--state-dir", type=Path, default="/var/lib/arbiter", help="what must survive a restart")
    add_flag(parser, "--run-dir", type=Path, default="/run/arbiter/containers", help="the containers' directories")
    add_flag(
        parser,
        "--ignored-xids",
        type=_xids,
        default="",
        help="XIDs, as 63,94, that leave a GPU healthy; those of applications do so anyway",
    )
    add_flag(parser, "--proc-dir", type=Path, default="/proc", help="the host's processes")
    add_flag(
        parser,
        "--devices",
        type=_devices,
        default="",
        help="indices or uuids, as 0,GPU-8a1f..., of the GPUs that are Arbiter's; all of them where none is named",
    )
    add_flag(
        parser,
        "--vram-budget",
        type=_share,
        default="100%",
        help="share of each GPU's usable memory that is given out",
    )
    add_flag(
        parser,
        "--gpu-access",
        choices=tuple(GpuAccess),
        default=GpuAccess.ENVIRONMENT,
        help="how the node's runtime is told which GPUs a container gets; only cdi (containerd 1.7 or newer) and "
        "volume-mounts keep containers from others",
    )
    add_flag(
        parser,
        "--start-wait",
        type=_start_wait,
        default="25s",
        help="how long a start waits for its floor before it is refused with the reason; the kubelet asks again",
    )


def run(args: argparse.Namespace) -> int:
    """Serves until SIGTERM; returns the exit code."""
    return run_process(_serve(args), log_level=args.log_level)


async def _serve(args: argparse.Namespace) -> None:
    settings = _settings(args)
    backend = _backend(args)
    agents: list[Agent] = []

    def obstacle() -> str | None:
        return agents[0].obstacle() if agents else "the GPUs could not be read yet"

    client = await KubeClient.connect(args.kubeconfig, component=COMPONENT)
    async with client, serve_health(args.health_bind, component=COMPONENT, ready=obstacle):
        try:
            await serve(settings, client=client, backend=backend, ready=agents.append)
        except StateError as error:
            raise ConfigurationError(str(error)) from error


def _settings(args: argparse.Namespace) -> Settings:
    if not args.node:
        raise ConfigurationError("--node (or ARBITER_NODE) is missing; write the name of the node that this runs on.")
    own, theirs = args.run_dir / ("0" * NAME_LENGTH) / SOCKET_FILE, longest_socket(Kubelet(args.kubelet_dir))
    for flag, socket in (("--run-dir", own), ("--kubelet-dir", theirs)):
        excess = len(bytes(socket)) - LONGEST_SOCKET_PATH
        if excess > 0:
            raise ConfigurationError(
                f"{flag} is {excess} bytes too long: the kernel takes socket paths of {LONGEST_SOCKET_PATH} bytes, "
                f"and {socket} would be one."
            )
    return Settings(
        node=NodeName(args.node),
        unit=args.vram_unit,
        kubelet_dir=args.kubelet_dir,
        state_dir=args.state_dir,
        run_dir=args.run_dir,
        proc_dir=args.proc_dir,
        selection=Selection(devices=args.devices, budget=args.vram_budget),
        gpu_access=GpuAccess(args.gpu_access),
        start_wait=args.start_wait,
    )


def _backend(args: argparse.Namespace) -> Backend:
    if args.backend == "nvml":
        return NvmlBackend(proc=args.proc_dir, ignored_xids=args.ignored_xids)
    if args.simulated_gpus is None:
        raise ConfigurationError("--simulated-gpus (or ARBITER_SIMULATED_GPUS) is missing; write the YAML file's path.")
    return SimulatedBackend(args.simulated_gpus)


def _start_wait(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}.") from error
    if not SHORTEST_START_WAIT <= seconds <= LONGEST_START_WAIT:
        allowed = f"{SHORTEST_START_WAIT:g}s to {LONGEST_START_WAIT:g}s"
        raise argparse.ArgumentTypeError(f"{text} is no time that a start can wait; write {allowed}, as 25s.")
    return seconds


def _devices(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_words(text)))


def _share(text: str) -> Fraction:
    found = re.fullmatch(r"(\d{1,3}(?:\.\d{1,3})?)%", text)
    share = Fraction(found[1]) / 100 if found else Fraction(0)
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share of a GPU; write a percentage above 0, as 90%.")
    return share


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _xids(text: str) -> frozenset[int]:
    words = _words(text)
    wrong = [word for word in words if not word.isdigit()]
    if wrong:
        raise argparse.ArgumentTypeError(f"{wrong[0]} is no XID; write numbers with commas, as 63,94.")
    return frozenset(int(word) for word in words)
