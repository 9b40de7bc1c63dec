from arbiter.ids import PodUid
from arbiter_operator.agenda import Agenda
from arbiter_operator.history import History

CHAT = PodUid("chat")


def test_an_agenda_calls_what_is_due_once_and_knows_what_comes_next() -> None:
    called: list[str] = []
    agenda = Agenda()
    agenda.put("late", 20.0, lambda: called.append("late"))
    agenda.put("early", 10.0, lambda: called.append("early"))
    assert agenda.next_at == 10.0
    agenda.run(10.0)
    agenda.run(15.0)
    assert (called, agenda.next_at) == (["early"], 20.0)


def test_a_key_stands_for_its_last_entry() -> None:
    called: list[str] = []
    agenda = Agenda()
    agenda.put("same", 10.0, lambda: called.append("first"))
    agenda.put("same", 20.0, lambda: called.append("second"))
    agenda.run(10.0)
    agenda.run(20.0)
    assert (called, agenda.next_at) == (["second"], None)


def test_an_entry_may_put_itself_back() -> None:
    agenda = Agenda()

    def again() -> None:
        agenda.put("again", 20.0, again)

    agenda.put("again", 10.0, again)
    agenda.run(10.0)
    assert agenda.next_at == 20.0


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
