"""`arbiter doctor`: asks, judges and prints; 1 where a check fails."""

import argparse
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from arbiter_cli.access import Access, add_cluster, ask
from arbiter_cli.arguments import OBJECTS, Output, add_output
from arbiter_cli.doctor import admission, installation, nodes
from arbiter_cli.doctor.facts import Check, Facts, Verdict
from arbiter_cli.doctor.reading import read_facts
from arbiter_cli.printing import emit
from arbiter_kube.api import SYSTEM_NAMESPACE

CHECKS = (
    installation.check_server,
    installation.check_operator,
    admission.check_webhook,
    admission.check_certificates,
    admission.check_guards,
    admission.check_priority_classes,
    installation.check_policies,
    installation.check_scheduler,
    installation.check_rights,
    nodes.check_agents,
    nodes.check_versions,
    nodes.check_conflicts,
    nodes.check_drift,
    nodes.check_gpus,
)

_WIDTH = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `arbiter doctor` takes."""
    parser.epilog = (
        "Exit code 1 where a check fails. Nothing is changed: the webhook is tried in --namespace by creating pods "
        "without creating them (a server-side dry run)."
    )
    parser.add_argument(
        "--system-namespace",
        default=SYSTEM_NAMESPACE,
        metavar="NAMESPACE",
        help="where Arbiter is installed (default: %(default)s)",
    )
    add_cluster(parser)
    add_output(parser, OBJECTS)


def run(arguments: argparse.Namespace) -> int:
    """Prints every check; 0, or 1 where one fails.

    Raises:
        InputError: the cluster cannot be reached.
    """

    async def examine(access: Access) -> int:
        checks = judged(await read_facts(access, namespace=arguments.system_namespace))
        if arguments.output is Output.TABLE:
            Console(highlight=False).print(as_text(checks), soft_wrap=True)
        else:
            emit(checks, arguments.output)
        return 1 if any(check.verdict is Verdict.FAIL for check in checks) else 0

    return ask(arguments, examine)


def judged(facts: Facts) -> list[Check]:
    """Every check, in the order in which things depend on each other; one alone where there is nothing to check."""
    absent = installation.check_presence(facts)
    return [absent] if absent else [check(facts) for check in CHECKS]


def as_text(checks: Sequence[Check]) -> Text:
    """One line for each check, what is wrong and what mends it below, and the sum."""
    text = Text()
    for check in checks:
        text.append(f"{check.verdict:<{_WIDTH}}", style=_STYLES[check.verdict]).append(f"  {check.text}\n")
        below = [*check.details, *(f"do: {remedy}" for remedy in check.remedies)]
        text.append("".join(f"{'':<{_WIDTH}}  {line}\n" for line in below))
    counts = {verdict: sum(check.verdict is verdict for check in checks) for verdict in Verdict}
    rest = [f"{counts[Verdict.FAIL]} failed"]
    rest += [f"{counts[verdict]} {word}" for verdict, word in _ALSO if counts[verdict]]
    return text.append(f"{len(checks)} check{'' if len(checks) == 1 else 's'}, {', '.join(rest)}")


_ALSO = ((Verdict.WARN, "with a warning"), (Verdict.SKIP, "skipped"))

_STYLES = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red", Verdict.SKIP: "dim"}
