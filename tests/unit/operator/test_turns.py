import asyncio

from arbiter_operator.turns import AT_ONCE, in_turns


async def test_others_have_their_turn_while_very_much_is_looked_at() -> None:
    turns, seen = 0, list[int]()

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def look(number: int) -> None:
        seen.append(number)

    waiting = asyncio.create_task(other())
    await in_turns(look, range(1000))
    waiting.cancel()

    assert seen == [*range(1000)]
    assert turns >= 1000


async def test_few_are_looked_at_at_once() -> None:
    under_way, most = 0, 0

    async def look(number: int) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(10 * AT_ONCE):
            await asyncio.sleep(0)
        under_way -= 1

    await in_turns(look, range(100))
    assert most == AT_ONCE
