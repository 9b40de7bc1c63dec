"""Leadership by a real Lease: one works, another follows."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from arbiter_kube.api.objects import ObjectKey
from arbiter_kube.api.resources import LEASES
from arbiter_kube.client import KubeClient
from arbiter_kube.client.leader import Leadership
from tests.component.kube.support import Cable
from tests.support.patience import PATIENCE

DURATION = 1


class Office:
    """Who works now, and who did, in order."""

    def __init__(self) -> None:
        self.now: set[str] = set()
        self.terms: list[str] = []
        self.most = 0
        self._changed = asyncio.Condition()

    def work(self, name: str) -> Callable[[], Awaitable[None]]:
        async def forever() -> None:
            self.now.add(name)
            self.terms.append(name)
            self.most = max(self.most, len(self.now))
            try:
                await self._tell()
                await asyncio.Event().wait()
            finally:
                self.now.discard(name)
                await self._tell()

        return forever

    async def until(self, working: set[str]) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: self.now == working)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


@asynccontextmanager
async def candidate(client: KubeClient, namespace: str, name: str, office: Office) -> AsyncIterator[Leadership]:
    leadership = Leadership(client, ObjectKey(namespace, "lead"), identity=name, duration=DURATION)
    running = asyncio.create_task(leadership.run(office.work(name)))
    try:
        yield leadership
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_the_second_follows_as_soon_as_the_first_leaves(client: KubeClient, namespace: str) -> None:
    office = Office()
    async with candidate(client, namespace, "first", office):
        await office.until({"first"})
        async with candidate(client, namespace, "second", office) as second:
            await asyncio.sleep(2 * DURATION)
            assert office.now == {"first"}
            assert not second.is_leading
    assert office.terms == ["first"]
    async with candidate(client, namespace, "second", office):
        await office.until({"second"})
        lease = await client.get(LEASES, "lead", namespace=namespace)
    assert (lease.spec.holder_identity, lease.spec.lease_transitions) == ("second", 1)
    assert (await client.get(LEASES, "lead", namespace=namespace)).spec.holder_identity == ""


async def test_a_leader_that_is_cut_off_stops_before_another_follows(
    client: KubeClient, distant: KubeClient, cable: Cable, namespace: str
) -> None:
    office = Office()
    async with candidate(distant, namespace, "distant", office):
        await office.until({"distant"})
        async with candidate(client, namespace, "near", office):
            await cable.cut()
            await office.until({"near"})
            assert office.most == 1
            await cable.open()
            await asyncio.sleep(2 * DURATION)
            assert office.now == {"near"}


async def test_a_leader_whose_lease_is_taken_away_stops(client: KubeClient, namespace: str) -> None:
    office = Office()
    async with candidate(client, namespace, "robbed", office):
        await office.until({"robbed"})
        await client.patch(LEASES, "lead", {"spec": {"holderIdentity": "robber"}}, namespace=namespace)
        await office.until(set())
        await office.until({"robbed"})
    assert office.terms == ["robbed", "robbed"]


async def test_a_lease_that_was_deleted_is_made_anew(client: KubeClient, namespace: str) -> None:
    office = Office()
    async with candidate(client, namespace, "only", office):
        await office.until({"only"})
        await client.delete(LEASES, "lead", namespace=namespace)
        await asyncio.sleep(DURATION)
        assert (await client.get(LEASES, "lead", namespace=namespace)).spec.holder_identity == "only"
    assert office.terms == ["only"]


async def test_what_the_work_raises_ends_the_leadership(client: KubeClient, namespace: str) -> None:
    async def fail() -> None:
        raise RuntimeError("broken")

    leadership = Leadership(client, ObjectKey(namespace, "lead"), identity="failing", duration=DURATION)
    with pytest.raises(RuntimeError, match="broken"):
        await asyncio.wait_for(leadership.run(fail), PATIENCE)
    assert (await client.get(LEASES, "lead", namespace=namespace)).spec.holder_identity == ""
