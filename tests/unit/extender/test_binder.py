"""A claim ends when it is certain what became of its bind, whatever the answers were, and never before."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from arbiter.ids import NodeName
from arbiter_extender.binder import IN_FLIGHT, SENDING, Binder
from arbiter_extender.errors import BindError
from arbiter_extender.ledger import Ledger
from arbiter_kube.api import annotations as a
from arbiter_kube.api.objects import ObjectMeta, Pod, PodSpec
from arbiter_kube.client import ApiError, Conflict, Forbidden, KubeClient, NotFound, Unreachable
from tests.support import virtual_time
from tests.unit.extender.builders import a_ledger, a_node, a_pod, at, uid

POD, HERE = a_pod("chat").pod, at("n1", "a")
REPLY_LOST = Unreachable("reply lost")
FORBIDDEN = Forbidden(action="bind", status=403, message="no")
BROKEN = ApiError(action="bind", status=500, message="etcd is away")


class Answers(KubeClient):
    """An API server that answers Bindings so, one after another and then always as the last; `found` is the pod."""

    def __init__(self, *bindings: Exception | None, found: Pod | None = None) -> None:
        self._bindings = list(bindings)
        self.found = found
        self.sent = 0

    async def bind(self, *_: Any, **__: Any) -> None:
        self.sent += 1
        answer = self._bindings.pop(0) if len(self._bindings) > 1 else self._bindings[0]
        await asyncio.sleep(0)
        if answer is not None:
            raise answer

    async def get(self, *_: Any, **__: Any) -> Any:  # of KubeClient's many kinds only pods are asked for
        if self.found is None:
            raise NotFound(action="get", status=404)
        return self.found


def in_the_cluster(node: str | None, *gpus: str) -> Pod:
    annotations = {a.GPUS: ",".join(gpus)}
    return Pod(
        metadata=ObjectMeta(name="chat", namespace="team", uid=uid("chat"), annotations=annotations),
        spec=PodSpec(node_name=NodeName(node) if node else None),
    )


def bound(answers: Answers, story: Callable[[Binder, Ledger], Coroutine[Any, Any, None]]) -> None:
    """Tells the story of a pod whose room is assumed, in no time."""

    async def tell() -> None:
        ledger = a_ledger(a_node("n1").gpu("a", "7Gi"), a_pod("chat"))
        ledger.assume(POD, HERE)
        async with Binder(answers, ledger) as binder:
            await story(binder, ledger)

    virtual_time.run(tell())


NEVER_CARRIED_OUT = {
    "a lost reply, then a refusal": (REPLY_LOST, FORBIDDEN),
    "a failure that does not end": (BROKEN,),
    "no reply at all": (REPLY_LOST,),
}


@pytest.mark.parametrize("answers", NEVER_CARRIED_OUT.values(), ids=NEVER_CARRIED_OUT)
def test_a_claim_lasts_while_a_binding_may_still_be_carried_out_and_no_longer(answers: tuple[Exception, ...]) -> None:
    async def story(binder: Binder, ledger: Ledger) -> None:
        with pytest.raises(BindError, match="has not said within 4 s"):
            await binder.bind(POD, HERE)
        await asyncio.sleep(IN_FLIGHT - 6)
        assert ledger.is_assumed(POD.uid)
        await asyncio.sleep(SENDING + 20)
        assert not ledger.is_assumed(POD.uid)

    bound(Answers(*answers, found=in_the_cluster(None)), story)


def test_a_binding_that_was_carried_out_is_found_behind_a_lost_reply_and_a_refusal() -> None:
    async def story(binder: Binder, ledger: Ledger) -> None:
        await binder.bind(POD, HERE)
        assert ledger.is_assumed(POD.uid), "until the watch shows it"

    bound(Answers(REPLY_LOST, FORBIDDEN, found=in_the_cluster("n1", "a")), story)


def test_a_refusal_that_leaves_no_doubt_ends_the_claim_at_once() -> None:
    async def story(binder: Binder, ledger: Ledger) -> None:
        with pytest.raises(BindError, match=r"^team/chat may not be bound to n1: no\.$"):
            await binder.bind(POD, HERE)
        assert not ledger.is_assumed(POD.uid)

    bound(Answers(FORBIDDEN), story)


def test_a_bind_that_is_asked_for_as_another_one_ends_is_carried_out() -> None:
    answers = Answers(FORBIDDEN, None)

    async def story(binder: Binder, ledger: Ledger) -> None:
        first = asyncio.create_task(binder.bind(POD, HERE))
        for _ in range(100):
            if not ledger.is_assumed(POD.uid):
                break
            await asyncio.sleep(0)
        ledger.assume(POD, HERE)
        await binder.bind(POD, HERE)
        with pytest.raises(BindError):
            await first
        assert answers.sent == 2

    bound(answers, story)


def test_what_nobody_thought_of_is_followed_like_a_lost_reply() -> None:
    answers = Answers(ZeroDivisionError("a plugin's"), None)

    async def story(binder: Binder, ledger: Ledger) -> None:
        await binder.bind(POD, HERE)
        assert (answers.sent, ledger.is_assumed(POD.uid)) == (2, True)

    bound(answers, story)


def test_a_pod_on_the_node_that_was_asked_for_is_bound_whatever_its_gpus() -> None:
    async def story(binder: Binder, ledger: Ledger) -> None:
        await binder.bind(POD, HERE)

    bound(Answers(Conflict(action="bind", status=409), found=in_the_cluster("n1", "b")), story)


def test_a_pod_that_is_bound_elsewhere_is_told_and_its_claim_ends() -> None:
    async def story(binder: Binder, ledger: Ledger) -> None:
        with pytest.raises(BindError, match=r"^team/chat is bound to n2 already\.$"):
            await binder.bind(POD, HERE)
        assert not ledger.is_assumed(POD.uid)

    bound(Answers(Conflict(action="bind", status=409), found=in_the_cluster("n2", "a")), story)


ENDS = {
    "one that is gone": (lambda ledger: ledger.pod_deleted(POD.uid), "team/chat was deleted before"),
    "one that failed": (lambda ledger: ledger.pod_applied(a_pod("chat").finished().pod), "team/chat ended before"),
}


@pytest.mark.parametrize(("end", "sentence"), ENDS.values(), ids=ENDS)
def test_a_pod_that_ends_while_it_is_bound_is_told_as_it_ended(end: Callable[[Ledger], None], sentence: str) -> None:
    async def story(binder: Binder, ledger: Ledger) -> None:
        asyncio.get_running_loop().call_later(1.0, end, ledger)
        with pytest.raises(BindError, match=sentence):
            await binder.bind(POD, HERE)

    bound(Answers(REPLY_LOST, found=in_the_cluster(None)), story)
