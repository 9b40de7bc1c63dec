"""What `/debug/ledger` shows, and who may reach the extender at all."""

import json

import pytest
from aiohttp import web

from arbiter.ids import NodeName
from arbiter_extender import server
from arbiter_extender.server import is_loopback
from tests.component.extender.desk import a_desk
from tests.unit.extender.builders import a_node


async def test_the_ledger_is_json_whatever_a_node_is_called() -> None:
    async with a_desk() as desk:
        desk.ledger.report_applied(NodeName('n"1\\'), a_node("n1").gpu("a", "7Gi").report)
        status, text = await desk.get("/debug/ledger")
    assert (status, list(json.loads(text))) == (200, ['n"1\\'])


async def test_the_ledger_is_shown_to_nobody_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.BaseRequest, "remote", "10.0.0.7")
    async with a_desk() as desk:
        assert await desk.get("/debug/ledger") == (403, "The ledger is shown on loopback only.\n")


async def test_an_address_that_others_reach_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "is_loopback", lambda _: False)
    async with a_desk():
        assert "whoever reaches this address can bind pods; let kube-scheduler alone reach it bind=127" in caplog.text


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_a_host_that_is_reached_from_inside_alone(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "fe80::1%eth0", "gpu-1", ""])  # noqa: S104 - only compared
def test_a_host_that_others_reach(host: str) -> None:
    assert not is_loopback(host)
