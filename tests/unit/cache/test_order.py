"""The order in which a tier gives fragments up: segmented LRU, those of one system before those of both."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from arbiter.cache.fragment import FragmentId
from arbiter.cache.order import EvictionOrder


def order_of(*names: str, capacity: int = 1000) -> EvictionOrder:
    """Fragments of 100 bytes that came in this order; a capital letter is shared."""
    order = EvictionOrder(capacity=capacity)
    for name in names:
        order.add(FragmentId(name), size=100, shared=name.isupper())
    return order


def touch(*names: str) -> Callable[[EvictionOrder], None]:
    def event(order: EvictionOrder) -> None:
        for name in names:
            order.touch(FragmentId(name))

    return event


def add(*names: str) -> Callable[[EvictionOrder], None]:
    def event(order: EvictionOrder) -> None:
        for name in names:
            order.add(FragmentId(name), size=100, shared=name.isupper())

    return event


def share(name: str) -> Callable[[EvictionOrder], None]:
    return lambda order: order.share(FragmentId(name))


def discard(name: str) -> Callable[[EvictionOrder], None]:
    return lambda order: order.discard(FragmentId(name))


@dataclass(frozen=True)
class Case:
    order: EvictionOrder
    events: tuple[Callable[[EvictionOrder], None], ...]
    expected: str


CASES = {
    "what came first goes first": Case(order_of("a", "b", "c"), (), "abc"),
    "what both systems use goes after what one uses": Case(order_of("A", "b", "C", "d"), (), "bdAC"),
    "a second use protects": Case(order_of("a", "b", "c"), (touch("a"),), "bca"),
    "the protected go least recently used first": Case(order_of("a", "b", "c"), (touch("a", "b", "a"),), "cba"),
    "a scan pushes out what was used once, not what was used twice": Case(
        order_of("a", "b"), (touch("a"), add("s", "t", "u")), "bstua"
    ),
    "a shared fragment stays behind one that was used more often": Case(order_of("A", "b"), (touch("b", "b"),), "bA"),
    "sharing keeps the protection": Case(order_of("a", "B", "c"), (touch("a", "c"), share("a")), "cBa"),
    "sharing twice is sharing once": Case(order_of("a", "B"), (share("a"), share("a")), "Ba"),
    "what left is forgotten": Case(order_of("a", "b", "c"), (touch("b"), discard("b"), touch("a")), "ca"),
    "the protected part is four fifths; its oldest goes back to probation as the newest there": Case(
        order_of("a", "b", "c", "d", "e", capacity=500), (touch("a", "b", "c", "d", "e"),), "abcde"
    ),
    "a full protected part gives up one of one system first": Case(
        order_of("A", "b", "c", "d", "e", capacity=500), (touch("A", "b", "c", "d", "e"),), "bcdeA"
    ),
    "a fragment larger than the protected part stays on probation": Case(
        order_of("a", "b", capacity=120), (touch("a"),), "ba"
    ),
    "room in the protected part comes back with what leaves it": Case(
        order_of("a", "b", "c", capacity=250), (touch("a", "b"), discard("a"), touch("c")), "bc"
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_eviction_order(case: Case) -> None:
    for event in case.events:
        event(case.order)
    assert list(case.order) == list(case.expected)
    assert len(case.order) == len(case.expected)
