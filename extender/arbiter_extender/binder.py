"""Carries binds out and follows each until the API server has said what became of it.

An assumed pod keeps its room in the ledger until then, however often an answer is lost. Imports the ledger and the
Kubernetes client.
"""

import asyncio
import logging
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from arbiter.ids import NodeName, PodUid
from arbiter_extender.errors import BindError
from arbiter_extender.ledger import Ledger
from arbiter_extender.promises import Assignment
from arbiter_kube.api import annotations as a
from arbiter_kube.api.objects import ObjectKey, Pod
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.api.resources import PODS
from arbiter_kube.client import ApiError, Conflict, KubeClient, KubeError, NotFound, TooManyRequests, Unreachable
from arbiter_kube.client.backoff import Backoff

_log = logging.getLogger(__name__)

PATIENCE = 4.0
"""Seconds after which kube-scheduler is told that there is no answer yet: less than its httpTimeout of 5 s."""

CALL_TIMEOUT = 3.0
"""Seconds for one call; a Binding that is lost is sent again, which its UID makes harmless."""

AT_ONCE = 16
"""Bindings under way at a time; others wait for their turn.

Each more would need one more connection, and its TLS handshake costs both sides more than many calls. At 10 ms each
these are 1,600 a second, several times what kube-scheduler asks for.
"""

SENDING = 30.0
"""Seconds for which a Binding without a clear answer is sent again; after that the pod is only looked up."""

IN_FLIGHT = CALL_TIMEOUT + 60.0
"""Seconds for which a Binding without a clear answer may still be carried out: the API server ends requests by then."""

SHOWN_WITHIN = 10.0
"""Seconds after which a bound pod that the watch has not shown is looked up: it may have been deleted in a gap."""


@dataclass(slots=True)
class _Attempts:
    """What was sent of one bind; times are the event loop's, in seconds."""

    began: float
    unclear_at: float | None = None
    """When the last Binding was sent that may have been carried out, or may be yet."""

    def may_send(self, now: float) -> bool:
        return now - self.began < SENDING

    def may_land(self, now: float) -> bool:
        return self.unclear_at is not None and now - self.unclear_at < IN_FLIGHT


class Binder:
    """Binds pods that the ledger has assumed. One bind per pod is under way, however often it is asked for."""

    def __init__(self, client: KubeClient, ledger: Ledger) -> None:
        self._client = client
        self._ledger = ledger
        self._binds: dict[PodUid, asyncio.Task[None]] = {}
        self._watches: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def bind(self, pod: GpuPod, assignment: Assignment) -> None:
        """Binds an assumed pod to its node, with its GPUs.

        Raises:
            BindError: it is not bound, or after 4 s not known to be; the bind then goes on.
        """
        task = self._binds.get(pod.uid)
        if task is None:
            task = self._binds[pod.uid] = asyncio.create_task(self._carry_out(pod, assignment))
            # Its error is told to whoever still waits; nobody may be left.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        finished, _ = await asyncio.wait((task,), timeout=PATIENCE)
        if not finished:
            raise BindError(
                f"the API server has not said within {PATIENCE:g} s whether {pod.key} is bound to "
                f"{assignment.node}; it is asked until it does."
            )
        await task

    async def bind_without_vram(self, pod: ObjectKey, *, uid: PodUid, node: NodeName) -> None:
        """Binds a pod that asks for no GPU memory, once.

        Raises:
            BindError: it is not bound.
        """
        try:
            await self._client.bind(pod, uid=uid, node=node, annotations={}, within=CALL_TIMEOUT)
        except KubeError as error:
            raise BindError(f"{pod} is not bound to {node}: {error}") from error

    async def look_up(self, key: ObjectKey, uid: PodUid) -> Pod | None:
        """The pod as the API server has it now; None where it is gone, or another has taken its name.

        Raises:
            KubeError: there is no answer.
        """
        try:
            pod = await self._client.get(PODS, key.name, namespace=key.namespace, within=CALL_TIMEOUT)
        except NotFound:
            return None
        return pod if pod.uid == uid else None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stops following binds; those under way may still happen."""
        tasks = (*self._binds.values(), *self._watches)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry_out(self, pod: GpuPod, assignment: Assignment) -> None:
        try:
            await self._follow(pod, assignment)
        finally:
            # In the turn in which its claim ends: who asks in the next one begins anew.
            del self._binds[pod.uid]

    async def _follow(self, pod: GpuPod, assignment: Assignment) -> None:
        backoff = Backoff(first=0.2, ceiling=5.0)
        attempts = _Attempts(asyncio.get_running_loop().time())
        while self._ledger.is_assumed(pod.uid):
            try:
                async with self._turns:
                    await self._bind_once(pod, assignment, attempts)
                _log.info("pod bound pod=%s node=%s gpus=%s", pod.key, assignment.node, a.encode_gpus(assignment.gpus))
                self._watch(pod)
                return
            except BindError:
                self._ledger.release(pod.uid)
                raise
            except Exception as error:  # whatever it is, nobody but this loop would ever end the claim
                _log.warning("bind has no answer yet pod=%s node=%s error=%r", pod.key, assignment.node, error)
                await asyncio.sleep(backoff.next())
        shown = self._ledger.assigned(pod.uid)
        if shown is None:
            end = "was deleted" if self._ledger.pod(pod.uid) is None else "ended"
            raise BindError(f"{pod.key} {end} before it was bound to {assignment.node}.")
        if shown.node != assignment.node:
            raise BindError(f"{pod.key} is bound to {shown.node} already.")

    async def _bind_once(self, pod: GpuPod, assignment: Assignment, attempts: _Attempts) -> None:
        """Sends the Binding, and asks what is true where the API server objects.

        Raises:
            BindError: it is not bound, and will not be.
            KubeError: that cannot be said yet.
        """
        now = asyncio.get_running_loop().time()
        if not attempts.may_send(now):
            await self._compare(pod, assignment, attempts, refusal="the API server did not carry it out")
            return
        try:
            await self._client.bind(
                _key(pod),
                uid=pod.uid,
                node=assignment.node,
                annotations={a.GPUS: a.encode_gpus(assignment.gpus)},
                within=CALL_TIMEOUT,
            )
        except TooManyRequests:
            raise
        except ApiError as error:
            if error.is_transient:
                attempts.unclear_at = now
            elif attempts.unclear_at is None and not isinstance(error, Conflict | NotFound):
                raise BindError(f"{pod.key} may not be bound to {assignment.node}: {error.message}.") from error
            await self._compare(pod, assignment, attempts, refusal=error.message)
        except Exception as error:
            if not (isinstance(error, Unreachable) and error.never_sent):
                attempts.unclear_at = now
            raise

    async def _compare(self, pod: GpuPod, assignment: Assignment, attempts: _Attempts, *, refusal: str) -> None:
        """Whether a Binding that was refused, or had no answer, was carried out all the same.

        Raises:
            BindError: it was not and will not be; what is in the way.
            KubeError: it may be yet, or nobody says what is true.
        """
        found = await self.look_up(_key(pod), pod.uid)
        if found is None:
            raise BindError(f"{pod.key} was deleted before it was bound to {assignment.node}.")
        if found.node is None:
            if attempts.may_land(asyncio.get_running_loop().time()):
                raise Unreachable(f"bind pods {pod.key}: an earlier one may still be carried out: {refusal}")
            raise BindError(f"{pod.key} may not be bound to {assignment.node}: {refusal}.")
        # With other GPUs than these it is where kube-scheduler wants it all the same; the watch shows which.
        if found.node != assignment.node:
            raise BindError(f"{pod.key} is bound to {found.node} already.")

    def _watch(self, pod: GpuPod) -> None:
        task = asyncio.create_task(self._until_shown(pod))
        self._watches.add(task)
        task.add_done_callback(self._watches.discard)

    async def _until_shown(self, pod: GpuPod) -> None:
        """Ends a claim that no event would end: of a pod that came and went while the watch was broken."""
        while True:
            await asyncio.sleep(SHOWN_WITHIN)
            if not self._ledger.is_assumed(pod.uid):
                return
            try:
                if await self.look_up(_key(pod), pod.uid) is None:
                    self._ledger.pod_deleted(pod.uid)
            except KubeError as error:
                _log.warning("assumed pod cannot be looked up pod=%s error=%s", pod.key, error)


def _key(pod: GpuPod) -> ObjectKey:
    return ObjectKey(pod.namespace, pod.name)
