"""Which clock ends what."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry

from arbiter.ids import NodeName
from arbiter.units import Slices
from arbiter_extender.binder import Binder
from arbiter_extender.decision import FilterAnswer
from arbiter_extender.ledger import Ledger
from arbiter_extender.messages import ExtenderArgs
from arbiter_extender.metrics import Metrics
from arbiter_extender.promises import SOFT_HOLD
from arbiter_extender.service import Extender
from arbiter_kube.api import VRAM_RESOURCE
from arbiter_kube.api.objects import Pod
from arbiter_kube.client import KubeClient, codec
from arbiter_kube.client.credentials import BearerToken, Credentials
from tests.unit.extender.builders import NOW, a_ledger, a_node, a_pod

N1 = NodeName("n1")


@dataclass
class Clocks:
    """Seconds since the machine started, and what its clock shows."""

    steady: float = 50.0
    epoch: float = NOW


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@asynccontextmanager
async def an_extender(ledger: Ledger, clocks: Clocks) -> AsyncIterator[Extender]:
    """It cannot bind: there is no API server."""
    nowhere = Credentials(server="http://127.0.0.1:1", ssl=None, token=BearerToken(lambda: None))
    async with KubeClient(nowhere, component="test") as client:
        yield Extender(
            ledger,
            Binder(client, ledger),
            filter_answer=FilterAnswer.ALL,
            metrics=Metrics(CollectorRegistry()),
            clock=lambda: clocks.steady,
            epoch_clock=lambda: clocks.epoch,
        )


def asking(name: str) -> ExtenderArgs:
    """A pod of 4 GiB is to go to n1."""
    limits = {VRAM_RESOURCE: str(Slices(4))}
    pod = {
        "metadata": {"name": name, "namespace": "team", "uid": f"uid-{name}"},
        "spec": {"containers": [{"name": "main", "resources": {"limits": limits}}]},
    }
    return ExtenderArgs(codec.decode(codec.encode(pod), Pod), [N1])


async def test_a_nomination_ends_by_the_systems_clock_also_when_that_is_set(clocks: Clocks) -> None:
    clocks.epoch = NOW - 600
    ledger = a_ledger(a_node("n1").gpu("a", "7Gi"), a_pod("next").nominated("n1", "a", seconds=300))
    async with an_extender(ledger, clocks) as extender:
        assert extender.filter(asking("other")).node_names == ()
        clocks.epoch = NOW + 300
        assert extender.filter(asking("other")).node_names == (N1,)


async def test_a_soft_hold_lasts_as_long_as_ever_when_the_systems_clock_is_set(clocks: Clocks) -> None:
    async with an_extender(a_ledger(a_node("n1").gpu("a", "7Gi")), clocks) as extender:
        assert extender.filter(asking("first")).node_names == (N1,)
        clocks.epoch = NOW + 3600
        assert extender.filter(asking("second")).node_names == ()
        clocks.epoch, clocks.steady = NOW - 3600, clocks.steady + SOFT_HOLD
        assert extender.filter(asking("second")).node_names == (N1,)
