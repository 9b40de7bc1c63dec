from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.ids import PodUid
from arbiter.preemption import Candidate, Fits, victims
from arbiter.workload import Priority


def holder(name: str, priority: str = "Background", *, size: int = 4, since: float = 0.0) -> Candidate:
    return Candidate(uid=PodUid(name), priority=Priority(priority), size=size, since=since)


def lacking(size: int, candidates: Iterable[Candidate]) -> Fits:
    """A newcomer that fits once `size` bytes more are free."""
    sizes = {who.uid: who.size for who in candidates}
    return lambda gone: sum(sizes[uid] for uid in gone) >= size


@pytest.mark.parametrize(
    ("newcomer", "lacks", "holders", "leave"),
    [
        pytest.param("High", 4, [holder("a")], ["a"], id="who is two levels lower leaves"),
        pytest.param("High", 4, [holder("a", "Normal")], None, id="one level lower is not enough"),
        pytest.param("Critical", 0, [holder("a")], [], id="nobody leaves where there is room"),
        pytest.param("Critical", 9, [holder("a"), holder("b")], None, id="nobody leaves in vain"),
        pytest.param("High", 4, [holder("a", "Low"), holder("b")], ["b"], id="the lowest leaves"),
        pytest.param("High", 4, [holder("a", since=1), holder("b", since=2)], ["b"], id="of equals the youngest"),
        pytest.param(
            "High",
            8,
            [holder("a"), holder("b"), holder("c", "Low", size=8)],
            ["c"],
            id="one of a higher level rather than two of a lower one",
        ),
        pytest.param(
            "High",
            10,
            [holder("a", size=2), holder("b", size=4), holder("c", "Low", size=8)],
            ["a", "c"],
            id="of equally few the lowest that suffice",
        ),
        pytest.param(
            "Critical",
            4,
            [holder("a", "High"), holder("b", "Normal"), holder("c", "Low")],
            ["c"],
            id="only those that may be preempted count",
        ),
    ],
)
def test_who_leaves(newcomer: str, lacks: int, holders: list[Candidate], leave: list[str] | None) -> None:
    chosen = victims(holders, newcomer=Priority(newcomer), fits=lacking(lacks, holders))
    assert (None if chosen is None else [who.uid for who in chosen]) == leave


holders_of_any_kind = st.lists(
    st.builds(
        Candidate,
        uid=st.uuids().map(lambda uid: PodUid(str(uid))),
        priority=st.sampled_from(Priority),
        size=st.integers(1, 16),
        since=st.integers(0, 3).map(float),
    ),
    max_size=7,
    unique_by=lambda who: who.uid,
)


@given(holders=holders_of_any_kind, newcomer=st.sampled_from(Priority), lacks=st.integers(0, 40))
def test_the_fewest_of_the_lowest_leave_and_none_in_vain(
    holders: list[Candidate], newcomer: Priority, lacks: int
) -> None:
    fits = lacking(lacks, holders)
    chosen = victims(holders, newcomer=newcomer, fits=fits)
    lower = [who for who in holders if newcomer.may_preempt(who.priority)]
    enough = [some for some in _subsets(lower) if fits(frozenset(who.uid for who in some))]
    if chosen is None:
        assert enough == []
        return
    best = min(enough, key=lambda some: (len(some), sorted(who.order for who in some)))
    assert sorted(chosen, key=lambda who: who.order) == sorted(best, key=lambda who: who.order)


def _subsets(holders: list[Candidate]) -> list[tuple[Candidate, ...]]:
    subsets: list[tuple[Candidate, ...]] = [()]
    for who in holders:
        subsets += [(*some, who) for some in subsets]
    return subsets
