"""`arbiter detect`: the GPUs of this machine, and what its tools say of them."""

import argparse
import json
import sys
from typing import Any

from arbiter.detection import GpuDetectionResult, GpuDetector, GpuInfo
from arbiter.units import GIB
from arbiter_cli.arguments import Output, add_output

_UNKNOWN = "-"
_LONGEST = 3600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `arbiter detect` takes."""
    parser.epilog = "Exit code 1 where no GPU is found."
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=GpuDetector().timeout,
        metavar="SECONDS",
        help="how long each vendor's tool may take (default: %(default)g)",
    )
    add_output(parser)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST:
        raise argparse.ArgumentTypeError(f'"{text}" is no time; write seconds such as 5')
    return seconds


def run(arguments: argparse.Namespace) -> int:
    """Prints the GPUs on stdout and problems on stderr; 0, or 1 where no GPU is found."""
    found = GpuDetector(timeout=arguments.timeout).detect()
    if arguments.output is Output.JSON:
        print(json.dumps(as_json(found), indent=2))
    else:
        for problem in found.problems:
            print(f"Warning: {problem}", file=sys.stderr)
        print(as_table(found))
    return 0 if found.gpus else 1


def as_json(found: GpuDetectionResult) -> dict[str, Any]:
    """The shape of `-o json`: bytes, a share from 0 to 1, null where no tool says."""
    return {
        "method": found.method,
        "gpus": [
            {
                "deviceId": gpu.device_id,
                "vendor": gpu.vendor,
                "name": gpu.name,
                "vramTotalBytes": gpu.vram_total,
                "vramFreeBytes": gpu.vram_free,
                "utilisation": gpu.utilisation,
                "computeCapability": gpu.compute_capability,
                "driverVersion": gpu.driver_version,
            }
            for gpu in found.gpus
        ],
        "problems": list(found.problems),
    }


def as_table(found: GpuDetectionResult) -> str:
    """One line for each GPU, sizes in GiB."""
    if not found.gpus:
        return "No GPU found."
    rows = [("GPU", "VENDOR", "NAME", "VRAM", "FREE", "COMPUTE", "DRIVER"), *map(_row, found.gpus)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, f"Told by {found.method}."])


def _row(gpu: GpuInfo) -> tuple[str, ...]:
    return (
        str(gpu.device_id),
        gpu.vendor,
        gpu.name,
        _gib(gpu.vram_total),
        _UNKNOWN if gpu.vram_free is None else _gib(gpu.vram_free),
        gpu.compute_capability or _UNKNOWN,
        gpu.driver_version or _UNKNOWN,
    )


def _gib(size: int) -> str:
    return f"{size / GIB:.2f}Gi"
