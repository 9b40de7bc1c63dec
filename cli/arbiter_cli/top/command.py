"""`arbiter top`: live on a terminal, once everywhere else."""

import argparse
import sys

from arbiter_cli.access import Access, add_cluster, ask
from arbiter_cli.arguments import LISTS, Output, add_output, completed, one_of, words
from arbiter_cli.printing import emit
from arbiter_cli.snapshot import read_snapshot
from arbiter_cli.top.feed import Feed
from arbiter_cli.top.lines import lines, title
from arbiter_cli.top.live import live
from arbiter_cli.top.screen import Screen
from arbiter_cli.top.view import Sort, View, Viewer, chosen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `arbiter top` takes."""
    parser.epilog = "Without a terminal, or with -o json, yaml or name, it prints once, as --once does."
    parser.add_argument("--once", action="store_true", help="print once and end")
    parser.add_argument(
        "-A", "--all-namespaces", action="store_true", help="pods of all namespaces (the default without -n)"
    )
    sort = parser.add_argument(
        "--sort",
        type=one_of(Sort),
        default=Sort.GPU,
        metavar="BY",
        help=f"{', '.join(Sort)} (default: %(default)s)",
    )
    completed(sort, words(Sort))
    add_cluster(parser)
    add_output(parser, LISTS)


def run(arguments: argparse.Namespace) -> int:
    """Prints or draws.

    Raises:
        InputError: the cluster cannot be reached, or may not be read.
    """
    namespace = None if arguments.all_namespaces else arguments.namespace
    wide = arguments.output is Output.WIDE
    is_live = arguments.output in (Output.TABLE, Output.WIDE) and not arguments.once
    is_live = is_live and sys.stdin.isatty() and sys.stdout.isatty()

    async def top(access: Access) -> int:
        if is_live:
            feed = await Feed.start(access.client, within=access.within)
            await live(feed, Screen(sort=arguments.sort, namespace=namespace), wide=wide)
        else:
            view = Viewer().view(await read_snapshot(access))
            _print(chosen(view, namespace=namespace, sort=arguments.sort), arguments.output)
        return 0

    return ask(arguments, top)


def _print(view: View, output: Output) -> None:
    if output in (Output.JSON, Output.YAML):
        emit(view, output)
    elif output is Output.NAME:
        names = [pod.pod for row in view.rows for pod in row.pods] + [one.pod for one in view.queue]
        print("\n".join(f"pod/{name}" for name in dict.fromkeys(names)))
    else:
        print("\n".join([title(view), *(line.text for line in lines(view, wide=output is Output.WIDE))]))
