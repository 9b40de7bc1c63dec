import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from arbiter_operator.agenda import Agenda
from arbiter_operator.work import Key, WorkQueue
from arbiter_operator.writer import CONCURRENT_WRITES
from tests.support import virtual_time

ONE, OTHER = (0, "one"), (0, "other")


def working(story: Callable[[WorkQueue], Coroutine[Any, Any, None]]) -> None:
    """Tells the story to a queue at work, on a virtual clock."""

    async def tell() -> None:
        work = WorkQueue(Agenda())
        running = asyncio.create_task(work.run())
        await story(work)
        running.cancel()

    virtual_time.run(tell())


class Things:
    """What was looked at, and the looks that go on until they are told to end."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.may_end = asyncio.Event()

    async def hangs(self) -> bool:
        self.begun.append("hangs")
        await self.may_end.wait()
        return True

    def quick(self, name: str) -> Callable[[], Coroutine[Any, Any, bool]]:
        async def look() -> bool:
            self.begun.append(name)
            return True

        return look


def test_a_look_that_hangs_keeps_no_other_thing_waiting() -> None:
    async def story(work: WorkQueue) -> None:
        things = Things()
        work.put(ONE, things.hangs)
        work.put(OTHER, things.quick("other"))
        await asyncio.sleep(1)
        work.put(OTHER, things.quick("other"))
        await asyncio.sleep(1)
        assert things.begun == ["hangs", "other", "other"]

    working(story)


def test_what_changes_while_it_is_looked_at_is_looked_at_once_more_and_never_twice_at_a_time() -> None:
    async def story(work: WorkQueue) -> None:
        things = Things()
        work.put(ONE, things.hangs)
        await asyncio.sleep(1)
        for number in range(3):
            work.put(ONE, things.quick(f"change {number}"))
        await asyncio.sleep(1)
        assert things.begun == ["hangs"]
        things.may_end.set()
        await asyncio.sleep(1)
        assert things.begun == ["hangs", "change 2"]

    working(story)


def test_a_look_that_fails_is_repeated_less_and_less_often_until_it_succeeds() -> None:
    async def story(work: WorkQueue) -> None:
        tried_at: list[float] = []
        clock = asyncio.get_running_loop().time

        async def fails_three_times() -> bool:
            tried_at.append(clock())
            return len(tried_at) > 3

        work.put(ONE, fails_three_times)
        await asyncio.sleep(60)
        first, second, third, fourth = tried_at
        assert 0.25 <= second - first <= 0.5 <= third - second <= 1.0 <= fourth - third <= 2.0

    working(story)


def test_while_one_is_in_its_back_off_others_and_its_own_next_change_are_looked_at_at_once() -> None:
    async def story(work: WorkQueue) -> None:
        things = Things()

        async def fails() -> bool:
            things.begun.append("fails")
            return False

        work.put(ONE, fails)
        await asyncio.sleep(0.01)
        work.put(OTHER, things.quick("other"))
        work.put(ONE, things.quick("change"))
        await asyncio.sleep(0.01)
        assert things.begun == ["fails", "other", "change"]

    working(story)


def test_the_most_urgent_kind_comes_first_and_in_it_who_was_first() -> None:
    async def story(work: WorkQueue) -> None:
        things = Things()
        keys: list[Key] = [(1, "b"), (0, "d"), (1, "a"), (0, "c")]
        for kind, name in keys:
            work.put((kind, name), things.quick(f"{kind}{name}"))
        await asyncio.sleep(1)
        assert things.begun == ["0d", "0c", "1b", "1a"]

    working(story)


def test_few_are_looked_at_at_once() -> None:
    async def story(work: WorkQueue) -> None:
        things = Things()
        for number in range(100):
            work.put((0, number), things.hangs)
        await asyncio.sleep(1)
        assert len(things.begun) == CONCURRENT_WRITES
        things.may_end.set()
        await asyncio.sleep(1)
        assert len(things.begun) == 100

    working(story)


def test_others_have_their_turn_while_very_much_is_looked_at() -> None:
    async def story(work: WorkQueue) -> None:
        things, turns = Things(), 0
        for number in range(1000):
            work.put((0, number), things.quick("any"))
        while len(things.begun) < 1000:
            turns += 1
            await asyncio.sleep(0)
        assert turns >= 1000

    working(story)


def test_ended_it_breaks_off_and_begins_nothing_and_goes_on_when_it_runs_again() -> None:
    async def story() -> None:
        things, work = Things(), WorkQueue(Agenda())
        running = asyncio.create_task(work.run())
        work.put(ONE, things.hangs)
        await asyncio.sleep(1)
        work.put(ONE, things.quick("change"))
        running.cancel()
        work.put(OTHER, things.quick("other"))
        await asyncio.sleep(1)
        assert things.begun == ["hangs"]
        again = asyncio.create_task(work.run())
        await asyncio.sleep(1)
        assert sorted(things.begun) == ["change", "hangs", "other"]
        again.cancel()

    virtual_time.run(story())


async def test_what_a_look_raises_ends_the_work() -> None:
    async def breaks() -> bool:
        raise ValueError("broken")

    work = WorkQueue(Agenda())
    work.put(ONE, breaks)
    with pytest.raises(ExceptionGroup) as raised:
        await work.run()
    assert [str(error) for error in raised.value.exceptions] == ["broken"]
