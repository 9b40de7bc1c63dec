"""The NVML backend against the real driver: every point of its contract that a healthy machine can show."""

import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml

from arbiter.units import MIB
from arbiter_deviceplugin.backends import Gpu, Reading
from arbiter_deviceplugin.backends.nvml import NvmlBackend
from arbiter_deviceplugin.backends.nvml.health import EventKind
from hack.gpu_check.report import Report, mib

_READINGS = 20


async def examine(report: Report, proc: Path) -> Reading:
    """Reports every point; returns the last reading.

    Raises:
        BackendError: NVML cannot be read at all.
    """
    backend = NvmlBackend(proc=proc)
    try:
        reading = await backend.read()
        _tell_machine(report, reading)
        for gpu in reading.gpus:
            _check_gpu(report, gpu)
        _compare(report, reading)
        await _check_pace(report, backend)
        await _check_quiet(report, backend)
    finally:
        await backend.close()
    await _check_restart(report, proc, reading)
    return reading


def _tell_machine(report: Report, reading: Reading) -> None:
    driver = _asked(pynvml.nvmlSystemGetDriverVersion) or "unknown"
    cuda = _asked(pynvml.nvmlSystemGetCudaDriverVersion_v2) or 0
    report.fact(f"driver {driver}, CUDA {cuda // 1000}.{cuda % 1000 // 10}, Python {platform.python_version()}")
    for gpu in reading.gpus:
        sizes = f"{mib(gpu.total)}, {mib(gpu.reserved)} of it reserved, {mib(gpu.used)} used"
        report.fact(f"GPU {gpu.index}: {gpu.name}, {sizes}")
    for sentence in reading.left_out:
        report.fact(sentence)


def _check_gpu(report: Report, gpu: Gpu) -> None:
    name = f"GPU {gpu.index}"
    handle = pynvml.nvmlDeviceGetHandleByIndex(gpu.index)
    mode = _asked(lambda: pynvml.nvmlDeviceGetMigMode(handle)[0])
    report.fact(f"{name}: MIG mode {'does not exist' if mode is None else 'is on' if mode else 'is off'}")
    report.fact(f"{name}: NVLink reaches {', '.join(gpu.links) or 'no other GPU'}")
    report.check(f"{name} is healthy", holds=gpu.healthy, seen=gpu.reason or "nothing reported")
    second = _asked(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2))
    adds_up = second is not None and second.reserved == gpu.reserved and gpu.reserved + (gpu.used or 0) <= gpu.total
    report.check(f"{name}: the driver tells what it reserves", holds=adds_up, seen=f"usable {mib(gpu.usable)}")
    action = _asked(lambda: pynvml.nvmlDeviceGetFieldValues(handle, [pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION])[0])
    asks = action is not None and action.nvmlReturn == pynvml.NVML_SUCCESS
    seen = f"action {action.value.uiVal}" if asks else "a fault will last until the GPU or the driver was away"
    report.check(f"{name}: the driver tells which recovery it asks for", holds=asks or None, seen=seen)
    kinds = _asked(lambda: pynvml.nvmlDeviceGetSupportedEventTypes(handle)) or 0
    has_xids = bool(kinds & EventKind.XID_CRITICAL)
    report.check(f"{name}: XIDs are reported as events", holds=has_xids or None, seen=f"kinds {kinds:#x}")
    seen = gpu.limits.value if gpu.limits else "it cannot"
    report.check(f"{name}: the driver can limit control groups (r615)", holds=bool(gpu.limits) or None, seen=seen)


def _compare(report: Report, reading: Reading) -> None:
    """With nvidia-smi, which asks the same driver in its own way."""
    point = "nvidia-smi says the same of uuid, index, name and total"
    if shutil.which("nvidia-smi") is None:
        report.check(point, holds=None, seen="it is not installed")
        return
    query = "--query-gpu=uuid,index,name,memory.total"
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    theirs = sorted(tuple(cell.strip() for cell in line.split(",")) for line in done.stdout.splitlines())
    ours = sorted((gpu.uuid, str(gpu.index), gpu.name, str(gpu.total // MIB)) for gpu in reading.gpus)
    report.check(point, holds=theirs == ours, seen=f"{len(ours)} GPUs" if theirs == ours else f"{theirs} and {ours}")


async def _check_pace(report: Report, backend: NvmlBackend) -> None:
    walls, processor = [], time.process_time()
    for _ in range(_READINGS):
        began = time.perf_counter()
        await backend.read()
        walls.append((time.perf_counter() - began) * 1000)
    spent = (time.process_time() - processor) * 1000 / _READINGS
    seen = f"median {statistics.median(walls):.1f} ms, longest {max(walls):.1f} ms, {spent:.1f} ms of a processor"
    report.check("a reading of every GPU takes less than 0.1 s", holds=statistics.median(walls) < 100, seen=seen)
    # One each 2 s: the whole agent may use 1 % of a core while nothing happens.
    report.check("readings keep a core busy for less than 1 %", holds=spent < 20, seen=f"{spent / 20:.2f} %")


async def _check_quiet(report: Report, backend: NvmlBackend) -> None:
    began = time.perf_counter()
    await backend.idle()
    took = time.perf_counter() - began
    report.check("waiting for events ends by itself where none come", holds=took < 4, seen=f"after {took:.1f} s")


async def _check_restart(report: Report, proc: Path, before: Reading) -> None:
    backend = NvmlBackend(proc=proc)
    try:
        after = await backend.read()
    finally:
        await backend.close()
    same = [gpu.uuid for gpu in after.gpus] == [gpu.uuid for gpu in before.gpus]
    report.check("the library starts anew with the same GPUs", holds=same, seen=f"{len(after.gpus)} GPUs")


def _asked(ask: Callable[[], Any]) -> Any:
    """The answer; None where the driver or the board has none."""
    try:
        return ask()
    except pynvml.NVMLError:
        return None
