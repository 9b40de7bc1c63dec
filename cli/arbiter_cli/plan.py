"""`arbiter plan`: what manifests would get, without a cluster."""

import argparse
import json
import sys
from collections import Counter
from typing import Any

from arbiter.curves import LOWEST_PRICE
from arbiter.demand import format_quality
from arbiter.ids import GpuUuid, NodeName
from arbiter.units import GIB, QuantityError, parse_bytes
from arbiter.workload import PolicyMode, Priority
from arbiter_cli.arguments import Output, add_output, completed, one_of, words
from arbiter_cli.errors import InputError
from arbiter_cli.groups import Candidate, request_of
from arbiter_cli.manifests import read_manifests
from arbiter_cli.planning import Node, Placed, Plan, Unplaced, plan

_DEFAULT_GPU = "12Gi"
_PRIORITIES = tuple(priority.value for priority in Priority)
_REMINDER = "GPU sizes are usable memory: of a 12 GiB card the driver usually leaves 11.64Gi."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `arbiter plan` takes."""
    parser.epilog = (
        "Exit code 1 where something does not fit. Of nodes only the GPUs are looked at, no labels, CPU or memory."
    )
    parser.add_argument(
        "-f",
        "--filename",
        nargs="+",
        action="extend",
        required=True,
        metavar="FILE",
        help="manifests: files, directories, - for stdin",
    )
    hardware = parser.add_mutually_exclusive_group()
    hardware.add_argument(
        "--gpu",
        nargs="+",
        action="extend",
        type=_sizes,
        metavar="SIZE",
        help=f"usable memory of each GPU of one node: 12Gi, or 12Gi,24Gi (default: one of {_DEFAULT_GPU})",
    )
    hardware.add_argument(
        "--node",
        nargs="+",
        action="extend",
        type=_node,
        metavar="NAME=SIZES",
        help="a node and the usable memory of each of its GPUs: gpu-1=12Gi,24Gi; several times for several nodes",
    )
    parser.add_argument("--unit", type=_size, default="1Gi", help="bytes of one slice (default: %(default)s)")
    mode = parser.add_argument(
        "--mode", type=one_of(PolicyMode), metavar="MODE", help=f"one of {', '.join(PolicyMode)}"
    )
    completed(mode, words(PolicyMode))
    highest = parser.add_argument(
        "--max-priority",
        type=_priority,
        default=Priority.CRITICAL,
        metavar="PRIORITY",
        help="the highest of namespaces without a label of their own, as the chart's maxPriority (default: Critical)",
    )
    completed(highest, words(_PRIORITIES))
    add_output(parser)


def _priority(text: str) -> Priority:
    try:
        return Priority(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'"{text}" is unknown; write one of {", ".join(_PRIORITIES)}') from error


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


def _node(text: str) -> Node:
    name, equals, sizes = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f'"{text}" is no node; write its name and GPUs, such as gpu-1=12Gi,24Gi')
    gpus = {GpuUuid(f"{name}/{index}"): size for index, size in enumerate(_sizes(sizes))}
    return Node(name=NodeName(name), gpus=gpus)


def _nodes(arguments: argparse.Namespace) -> list[Node]:
    if arguments.node is None:
        sizes = [size for group in arguments.gpu or [_sizes(_DEFAULT_GPU)] for size in group]
        gpus = {GpuUuid(f"gpu-{index}"): size for index, size in enumerate(sizes)}
        return [Node(name=NodeName("the node"), gpus=gpus)]
    twice = next((name for name, times in Counter(node.name for node in arguments.node).items() if times > 1), None)
    if twice is not None:
        raise InputError(f'node "{twice}" is there twice; write all of its GPUs at once: --node {twice}=12Gi,24Gi.')
    return list(arguments.node)


def run(arguments: argparse.Namespace) -> int:
    """Prints the plan; 0, or 1 where something does not fit.

    Raises:
        InputError: the manifests cannot be read, or admission would refuse them.
    """
    nodes = _nodes(arguments)
    manifests = read_manifests(arguments.filename)
    request = request_of(manifests, unit=arguments.unit, mode=arguments.mode, highest=arguments.max_priority)
    for warning in request.warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    answer = plan(request, nodes, unit=arguments.unit)
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
                "members": [_member_json(answer, one.candidate) for one in answer.members_of(gpu)],
            }
            for gpu, price in answer.prices.items()
        ],
        "unplaced": [
            {
                "namespace": unplaced.candidate.namespace,
                "name": unplaced.candidate.name,
                "replicas": unplaced.replicas,
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
    everybody: list[Placed | Unplaced] = [*answer.placed, *answer.unplaced]
    times = Counter(one.candidate.name for one in everybody)

    def label(one: Placed | Unplaced) -> str:
        name, namespace = one.candidate.name, one.candidate.namespace
        more = f" and {one.replicas - 1} more" if isinstance(one, Unplaced) and one.replicas > 1 else ""
        return (name if times[name] == 1 else f"{namespace}/{name}") + more

    width = max((len(label(one)) for one in everybody), default=0)
    lines: list[str] = []
    for gpu in answer.prices:
        lines.append(_gpu_line(answer, gpu))
        lines += (f"  {label(one):<{width}}  {_member_columns(answer, one, gpu)}" for one in answer.members_of(gpu))
    if not everybody:
        lines.append("Nothing in these manifests asks for GPU memory.")
    if answer.unplaced:
        lines.append("Unplaced:")
        lines += (f"  {label(one):<{width}}  {one.reason}" for one in answer.unplaced)
    return "\n".join([*lines, _REMINDER])


def _gpu_line(answer: Plan, gpu: GpuUuid) -> str:
    price = answer.prices[gpu]
    wanted = sum(one.candidate.demand.full for one in answer.members_of(gpu))
    kept = f", {price.headroom / GIB:.2f} are kept as headroom" if price.headroom and price.price > LOWEST_PRICE else ""
    return (
        f"{gpu}: full sizes add up to {wanted / GIB:.1f} GiB, {price.capacity / GIB:.2f} are usable{kept}. "
        f"Price {float(price.price):.3f} ({price.pressure}), mode {answer.policy.mode}."
    )


def _member_columns(answer: Plan, one: Placed, gpu: GpuUuid) -> str:
    demand, (quality, vram) = one.candidate.demand, answer.target_of(one.candidate)
    others = ", ".join(other for other in one.gpus if other != gpu)
    return (
        f"{demand.priority.value:<10}  floor {demand.floor / GIB:4.1f}  full {demand.full / GIB:4.1f}  "
        f"has {vram / GIB:5.2f} GiB  {format_quality(quality)}{f'  also on {others}' if others else ''}"
    )
