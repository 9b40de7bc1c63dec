"""`arbiter operator`: wires state, engine, kopf and probes together and keeps them running.

Every part runs until the process ends; when one fails the process does, and is started again.
"""

import argparse
import asyncio
import gc
from dataclasses import dataclass
from pathlib import Path

import kopf
from prometheus_client import REGISTRY

from arbiter_kube.api.objects import ObjectKey
from arbiter_kube.client import KubeClient
from arbiter_kube.client.credentials import Credentials, find_credentials
from arbiter_kube.client.events import EventRecorder
from arbiter_kube.client.health import Bind, serve_health
from arbiter_kube.client.leader import Leadership, unique_identity
from arbiter_kube.client.process import ConfigurationError, add_common_arguments, add_flag, bind, run_process
from arbiter_operator import framework
from arbiter_operator.admission.webhook import PodAdmission
from arbiter_operator.cluster import Cluster
from arbiter_operator.engine import Engine
from arbiter_operator.feed import Feed
from arbiter_operator.framework import WebhookEndpoint
from arbiter_operator.metrics import ClusterCollector
from arbiter_operator.writer import Writer

COMPONENT = "arbiter-operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the flags say; `unit` is the bytes of a slice, `lease_duration` seconds."""

    kubeconfig: Path | None
    health: Bind
    webhook: WebhookEndpoint
    unit: int
    namespace: str
    lease_duration: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    add_common_arguments(parser)
    add_flag(parser, "--webhook-bind", type=bind, default="0.0.0.0:9443", help="HOST:PORT of the admission webhook")
    add_flag(parser, "--webhook-cert", type=Path, default="/tls/tls.crt", help="the webhook's certificate, PEM")
    add_flag(parser, "--webhook-key", type=Path, default="/tls/tls.key", help="the key of that certificate, PEM")
    add_flag(parser, "--namespace", default="arbiter-system", help="namespace of the lease that the leader holds")
    add_flag(
        parser, "--lease-duration", type=_seconds, default="10", help="seconds after which a silent leader is followed"
    )


def _seconds(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is no time; write whole seconds, for example 10.")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Serves until it is told to end; returns the exit code."""
    webhook = WebhookEndpoint(bind=args.webhook_bind, certificate=args.webhook_cert, key=args.webhook_key)
    options = Options(
        kubeconfig=args.kubeconfig,
        health=args.health_bind,
        webhook=webhook,
        unit=args.vram_unit,
        namespace=args.namespace,
        lease_duration=args.lease_duration,
    )
    return run_process(_serve(options), log_level=args.log_level)


async def _serve(options: Options) -> None:
    framework.quieten_logs()
    for path in (options.webhook.certificate, options.webhook.key):
        if not path.is_file():
            raise ConfigurationError(f"{path} is no file; name the webhook's certificate and key in PEM.")
    credentials = await asyncio.to_thread(find_credentials, options.kubeconfig)
    async with KubeClient(credentials, component=COMPONENT) as client:
        await _operate(client, credentials, options)


async def _operate(client: KubeClient, credentials: Credentials, options: Options) -> None:
    cluster = Cluster(unit=options.unit)
    leadership = Leadership(
        client,
        ObjectKey(options.namespace, COMPONENT),
        identity=unique_identity(),
        duration=options.lease_duration,
    )

    def leads() -> bool:
        return leadership.is_leading

    recorder = EventRecorder(client, component=COMPONENT, may_tell=leads)
    engine = Engine(cluster, writer=Writer(client, may_write=leads), recorder=recorder)
    feed = Feed(client, cluster, wake=engine.wake)
    admission = PodAdmission(
        client, known=cluster.allocations, defaults=lambda: cluster.demand_defaults, unit=options.unit
    )
    listening = asyncio.Event()
    REGISTRY.register(ClusterCollector(cluster, prices=engine.prices, leading=leads))

    async def reconcile() -> None:
        # Those that follow know as much, so that whoever leads next begins at once.
        await feed.synced()
        # What is there by now mostly stays: looking through it again and again would hold everybody up for long.
        gc.collect()
        gc.freeze()
        await leadership.run(engine.run)

    def obstacle() -> str | None:
        return feed.obstacle() or (None if listening.is_set() else "The admission webhook is not served yet.")

    async with serve_health(options.health, component=COMPONENT, ready=obstacle), asyncio.TaskGroup() as group:
        others = [group.create_task(work) for work in (recorder.run(), feed.run(), reconcile())]
        # kopf scans the API once, at its start: our kinds have to be served by then.
        await feed.synced()
        # It installs handlers for the signals that end a process, and returns after one.
        await kopf.operator(
            registry=framework.registry(
                cluster, feed=feed, admission=admission, credentials=credentials, wake=engine.wake
            ),
            settings=framework.settings(options.webhook, listening=listening),
            clusterwide=True,
        )
        for task in others:
            task.cancel()
