"""Examines the machine's GPUs, lets two processes share the first of them, and writes what it saw.

Prints it, and writes it to gpu-check.md in the folder that the environment's OUT names, if any.
"""

import asyncio
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

try:
    import pynvml  # noqa: F401 - only whether it is there: the backend uses it
except ModuleNotFoundError:
    sys.exit("gpu-check needs pynvml: install the Python package nvidia-ml-py.")

from arbiter_deviceplugin.backends import BackendError
from hack.gpu_check.contract import examine
from hack.gpu_check.processes import View
from hack.gpu_check.report import Report
from hack.gpu_check.sharer import SharingError
from hack.gpu_check.sharing import COLUMNS, share


async def _check(report: Report, view: View) -> None:
    reading = await examine(report, view.directory)
    gpu = next((gpu for gpu in reading.gpus if gpu.healthy), None)
    if gpu is None:
        report.check("two processes share a GPU", holds=False, seen="there is no healthy GPU")
        return
    try:
        await share(report, gpu, view)
    except (SharingError, BackendError, TimeoutError) as error:
        report.check("two processes share a GPU", holds=False, seen=str(error) or "a process did not answer in time")


def main() -> int:
    """Returns the exit code: 0 where every point holds that can be told here."""
    report = Report()
    with tempfile.TemporaryDirectory() as directory:
        try:
            asyncio.run(_check(report, View(Path(directory))))
        except BackendError as error:
            print(f"gpu-check needs a machine with an NVIDIA GPU and its driver. {error}", file=sys.stderr)
            return 1
    block = f"## {datetime.now(UTC):%Y-%m-%d}: `make gpu-check`\n\n{report.markdown(COLUMNS)}"
    print(f"\n{block}")
    if out := os.environ.get("OUT"):
        Path(out, "gpu-check.md").write_text(block)
    return 1 if report.has_failed else 0


if __name__ == "__main__":
    sys.exit(main())
