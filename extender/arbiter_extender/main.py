"""`arbiter extender`: answers kube-scheduler, from a ledger that it keeps in step with the API server."""

import argparse
import logging
from pathlib import Path

from prometheus_client import REGISTRY

from arbiter.placement import Strategy
from arbiter.units import format_bytes
from arbiter_extender.binder import Binder
from arbiter_extender.decision import FilterAnswer
from arbiter_extender.feed import Feed
from arbiter_extender.ledger import Ledger
from arbiter_extender.metrics import LedgerCollector, Metrics
from arbiter_extender.server import serve
from arbiter_extender.service import Extender
from arbiter_kube.api import SCHEDULER_NAME
from arbiter_kube.client import KubeClient
from arbiter_kube.client.health import Bind, serve_health
from arbiter_kube.client.process import add_common_arguments, add_flag, bind, run_process

COMPONENT = "arbiter-extender"

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    add_common_arguments(parser)
    add_flag(
        parser,
        "--bind",
        type=bind,
        default="127.0.0.1:8888",
        help="HOST:PORT that kube-scheduler asks; loopback, since whoever reaches it can bind pods",
    )
    add_flag(
        parser,
        "--placement",
        choices=tuple(Strategy),
        default=Strategy.PACKED.value,
        help="which GPUs first where everybody keeps full quality: so that most stays usable, or the emptiest",
    )
    add_flag(
        parser,
        "--filter-answer",
        choices=tuple(FilterAnswer),
        default=FilterAnswer.ALL.value,
        help="which nodes filter names: all that fit, or the best alone, which spares kube-scheduler all scoring",
    )


def run(args: argparse.Namespace) -> int:
    """Serves until it is told to end; returns the exit code."""
    ledger = Ledger(unit=args.vram_unit, strategy=Strategy(args.placement))
    process = _serve(
        ledger,
        FilterAnswer(args.filter_answer),
        kubeconfig=args.kubeconfig,
        bind=args.bind,
        health_bind=args.health_bind,
    )
    return run_process(process, log_level=args.log_level)


async def _serve(
    ledger: Ledger, filter_answer: FilterAnswer, *, kubeconfig: Path | None, bind: Bind, health_bind: Bind
) -> None:
    metrics = Metrics(REGISTRY)
    REGISTRY.register(LedgerCollector(ledger))
    async with (
        await KubeClient.connect(kubeconfig, component=SCHEDULER_NAME) as client,
        Binder(client, ledger) as binder,
    ):
        feed = Feed(client, ledger)
        extender = Extender(ledger, binder, filter_answer=filter_answer, metrics=metrics)
        async with (
            serve_health(health_bind, component=COMPONENT, ready=feed.obstacle) as health,
            serve(bind, extender, ready=feed.obstacle, metrics=metrics) as address,
        ):
            _log.info("serving bind=%s health=%s unit=%s", address, health, format_bytes(ledger.unit))
            await feed.run()
