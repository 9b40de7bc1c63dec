import asyncio

from arbiter.ids import PodUid
from arbiter_operator.agenda import Agenda, steady_time
from arbiter_operator.history import History
from tests.support import virtual_time

CHAT = PodUid("chat")


async def _two_entries_a_key_and_one_that_comes_back() -> list[tuple[str, float]]:
    agenda, called = Agenda(), list[tuple[str, float]]()

    def note(name: str) -> None:
        called.append((name, steady_time()))

    def again() -> None:
        note("again")
        if steady_time() < 30.0:
            agenda.put("again", 20.0, again)

    agenda.put("late", 20.0, lambda: note("late"))
    agenda.put("early", 10.0, lambda: note("early"))
    agenda.put("same", 5.0, lambda: note("first"))
    agenda.put("same", 15.0, lambda: note("second"))
    agenda.put("again", 12.0, again)
    await asyncio.sleep(100.0)
    return called


def test_an_agenda_calls_each_keys_last_entry_once_when_it_is_due() -> None:
    called = virtual_time.run(_two_entries_a_key_and_one_that_comes_back())
    assert called == [("early", 10.0), ("again", 12.0), ("second", 15.0), ("late", 20.0), ("again", 32.0)]


def test_an_agenda_that_is_cleared_calls_nobody() -> None:
    async def story() -> list[str]:
        agenda, called = Agenda(), list[str]()
        agenda.put("any", 10.0, lambda: called.append("any"))
        agenda.clear()
        await asyncio.sleep(100.0)
        return called

    assert virtual_time.run(story()) == []


def test_the_first_word_says_how_long_a_target_took() -> None:
    history = History()
    history.wrote(CHAT, revision=2, at=100.0)
    history.applied(CHAT, revision=1, at=100.1)
    history.applied(CHAT, revision=2, at=100.25)
    history.applied(CHAT, revision=2, at=200.0)
    assert history.applied_after(CHAT, revision=2) == 0.25
    assert history.applied_after(CHAT, revision=3) is None


def test_something_is_told_once_until_the_pod_is_forgotten() -> None:
    history = History()
    assert [history.tell_once(CHAT, "VramWaiting", at=at) for at in (0.0, 1000.0)] == [True, False]
    assert history.has_told(CHAT, "VramWaiting")
    history.keep_only([])
    assert not history.has_told(CHAT, "VramWaiting")


def test_what_changes_is_told_again_after_a_while() -> None:
    history = History()
    words = [(0.0, "6Gi"), (1.0, "6Gi"), (59.0, "4Gi"), (60.0, "4Gi"), (1000.0, "4Gi"), (1001.0, "6Gi")]
    told = [history.tell_changed(CHAT, "VramWaiting", message=message, at=at) for at, message in words]
    assert told == [True, False, False, True, False, True]
