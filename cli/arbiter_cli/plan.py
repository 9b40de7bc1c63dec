"""`arbiter plan`: what manifests would get, without a cluster."""

import argparse
import json
import sys
from collections import Counter
from typing import Any

from arbiter.demand import format_quality
from arbiter.ids import GpuUuid
from arbiter.units import GIB, QuantityError, parse_bytes
from arbiter.workload import PolicyMode
from arbiter_cli.arguments import Output, add_output, one_of
from arbiter_cli.manifests import read_manifests
from arbiter_cli.planning import Candidate, Plan, plan, request_of

_DEFAULT_GPU = "12Gi"
_REMINDER = "GPU sizes are usable memory: of a 12 GiB card the driver usually leaves 11.64Gi."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `arbiter plan` takes."""
    parser.epilog = "Exit code 1 where something does not fit. All GPUs are those of one node."
    parser.add_argument(
        "-f",
        "--filename",
        nargs="+",
        action="extend",
        required=True,
        metavar="FILE",
        help="manifests: files, directories, - for stdin",
    )
    parser.add_argument(
        "--gpu",
        nargs="+",
        action="extend",
        type=_sizes,
        metavar="SIZE",
        help=f"usable memory of each GPU: 12Gi, or 12Gi,24Gi (default: one of {_DEFAULT_GPU})",
    )
    parser.add_argument("--unit", type=_size, default="1Gi", help="bytes of one slice (default: %(default)s)")
    parser.add_argument("--mode", type=one_of(PolicyMode), metavar="MODE", help=f"one of {', '.join(PolicyMode)}")
    add_output(parser)


def _size(text: str) -> int:
    try:
        size = parse_bytes(text)
    except QuantityError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if not size:
        raise argparse.ArgumentTypeError(f'"{text}" is no memory; write a size such as {_DEFAULT_GPU}')
    return size


def _sizes(text: str) -> list[int]:
    return [_size(part) for part in text.split(",")]


def run(arguments: argparse.Namespace) -> int:
    """Prints the plan; 0, or 1 where something does not fit.

    Raises:
        InputError: the manifests cannot be read, or admission would refuse them.
    """
    manifests = read_manifests(arguments.filename)
    request = request_of(manifests, unit=arguments.unit, mode=arguments.mode)
    sizes = [size for group in arguments.gpu or [_sizes(_DEFAULT_GPU)] for size in group]
    capacities = {GpuUuid(f"gpu-{number}"): size for number, size in enumerate(sizes)}
    for warning in request.warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    answer = plan(request, capacities, unit=arguments.unit)
    print(json.dumps(as_json(answer), indent=2) if arguments.output is Output.JSON else as_table(answer))
    return 1 if answer.unplaced else 0


def as_json(answer: Plan) -> dict[str, Any]:
    """The shape of `-o json`: bytes per GPU, prices -1 to 6, qualities in thousandths."""
    return {
        "gpus": [
            {
                "name": gpu,
                "capacityBytes": price.capacity,
                "price": float(price.price),
                "usedBytes": price.used,
                "members": [_member_json(answer, candidate) for candidate in answer.members_of(gpu)],
            }
            for gpu, price in answer.equilibrium.prices.items()
        ],
        "unplaced": [
            {
                "namespace": unplaced.candidate.namespace,
                "name": unplaced.candidate.name,
                "reason": unplaced.reason,
            }
            for unplaced in answer.unplaced
        ],
    }


def _member_json(answer: Plan, candidate: Candidate) -> dict[str, Any]:
    quality, vram = answer.target_of(candidate)
    return {
        "namespace": candidate.namespace,
        "name": candidate.name,
        "quality": float(quality),
        "vramBytes": vram,
        "floorBytes": candidate.demand.floor,
    }


def as_table(answer: Plan) -> str:
    """One block for each GPU, sizes in GiB, then what has no room."""
    everybody = [*(candidate for candidate, _ in answer.placed), *(unplaced.candidate for unplaced in answer.unplaced)]
    times = Counter(candidate.name for candidate in everybody)

    def label(candidate: Candidate) -> str:
        return candidate.name if times[candidate.name] == 1 else f"{candidate.namespace}/{candidate.name}"

    width = max((len(label(candidate)) for candidate in everybody), default=0)
    lines: list[str] = []
    for gpu in answer.equilibrium.prices:
        lines.append(_gpu_line(answer, gpu))
        lines += (f"  {label(one):<{width}}  {_member_columns(answer, one)}" for one in answer.members_of(gpu))
    if not everybody:
        lines.append("Nothing in these manifests asks for GPU memory.")
    if answer.unplaced:
        lines.append("Unplaced:")
        lines += (f"  {label(one.candidate):<{width}}  {one.reason}" for one in answer.unplaced)
    return "\n".join([*lines, _REMINDER])


def _gpu_line(answer: Plan, gpu: GpuUuid) -> str:
    price = answer.equilibrium.prices[gpu]
    wanted = sum(candidate.demand.full for candidate in answer.members_of(gpu))
    return (
        f"{gpu}: full sizes add up to {wanted / GIB:.1f} GiB, {price.capacity / GIB:.2f} are usable. "
        f"Price {float(price.price):.3f} ({price.pressure}), mode {answer.policy.mode}."
    )


def _member_columns(answer: Plan, candidate: Candidate) -> str:
    demand, (quality, vram) = candidate.demand, answer.target_of(candidate)
    return (
        f"{demand.priority.value:<10}  floor {demand.floor / GIB:4.1f}  full {demand.full / GIB:4.1f}  "
        f"has {vram / GIB:5.2f} GiB  {format_quality(quality)}"
    )
