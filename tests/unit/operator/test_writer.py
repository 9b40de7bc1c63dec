import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from arbiter_kube.api.fields import ObjectMeta
from arbiter_kube.api.qualitypolicy import QualityPolicyStatus
from arbiter_kube.api.resources import QUALITY_POLICIES
from arbiter_kube.client import ApiError, Conflict, KubeClient, NotFound, NotLeadingError
from arbiter_operator.writer import CONCURRENT_WRITES, Writer
from tests.support import virtual_time
from tests.unit.operator.builders import gpu_pod

POD = gpu_pod()
WRITES: dict[str, Callable[[Writer], Awaitable[Any]]] = {
    "a target": lambda writer: writer.annotate(POD, {"key": "value"}),
    "an eviction": lambda writer: writer.evict(POD, dry_run=False),
    "a status": lambda writer: writer.status(QUALITY_POLICIES, ObjectMeta(name="default"), QualityPolicyStatus()),
}


class Refusing:
    """A client whose requests the API server refuses."""

    def __init__(self, refusal: type[ApiError]) -> None:
        self._refusal = refusal

    async def patch(self, *_: Any, **__: Any) -> None:
        raise self._refusal(action="patch", status=400)

    evict = patch


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_what_is_gone_is_no_error_and_what_was_changed_meanwhile_is(
    write: Callable[[Writer], Awaitable[Any]],
) -> None:
    def writer(refusal: type[ApiError]) -> Writer:
        return Writer(cast("KubeClient", Refusing(refusal)), may_write=lambda: True)

    assert not await write(writer(NotFound))
    with pytest.raises(Conflict):
        await write(writer(Conflict))


class Slow:
    """A client whose requests take until they are told to end."""

    def __init__(self) -> None:
        self.sent = 0
        self.may_end = asyncio.Event()

    async def patch(self, *_: Any, **__: Any) -> None:
        self.sent += 1
        await self.may_end.wait()

    evict = patch


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_who_does_not_lead_any_more_when_its_turn_comes_sends_nothing(
    write: Callable[[Writer], Awaitable[Any]],
) -> None:
    async def story() -> None:
        client, leads = Slow(), True
        writer = Writer(cast("KubeClient", client), may_write=lambda: leads)
        sent = [asyncio.ensure_future(write(writer)) for _ in range(CONCURRENT_WRITES)]
        waiting = asyncio.ensure_future(write(writer))
        await asyncio.sleep(1)
        assert client.sent == CONCURRENT_WRITES

        leads = False
        client.may_end.set()
        await asyncio.gather(*sent)
        with pytest.raises(NotLeadingError, match="this replica does not lead"):
            await waiting
        assert client.sent == CONCURRENT_WRITES

    virtual_time.run(story())
