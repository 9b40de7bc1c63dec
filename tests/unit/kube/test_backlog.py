"""Who has their turn among those who have something to tell."""

import pytest

from arbiter_kube.client.backlog import Backlog


def filled(*items: tuple[str, str], capacity: int = 100) -> Backlog[str]:
    """With items of owners."""
    backlog = Backlog[str](capacity=capacity)
    for owner, item in items:
        backlog.put(item, owner=owner)
    return backlog


def everything(backlog: Backlog[str]) -> list[tuple[str, int]]:
    return [backlog.take() for _ in range(len(backlog))]


def test_each_owner_has_their_turn_and_their_oldest_goes_first() -> None:
    backlog = filled(("loud", "a"), ("loud", "b"), ("loud", "c"), ("quiet", "d"))
    assert everything(backlog) == [("a", 1), ("d", 1), ("b", 1), ("c", 1)]


def test_what_repeats_is_counted_and_keeps_its_place() -> None:
    assert everything(filled(("one", "a"), ("one", "b"), ("one", "a"))) == [("a", 2), ("b", 1)]


def test_where_there_is_too_much_the_newest_of_whoever_has_most_is_forgotten() -> None:
    backlog = filled(("loud", "a"), ("loud", "b"), capacity=2)
    assert not backlog.put("c", owner="quiet")
    assert not backlog.put("d", owner="loud")
    assert backlog.put("a", owner="loud"), "it only counts up"
    assert everything(backlog) == [("a", 2), ("c", 1)]


def test_nothing_is_taken_where_nothing_waits() -> None:
    with pytest.raises(KeyError):
        filled().take()
