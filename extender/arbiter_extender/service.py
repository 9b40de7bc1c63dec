"""The three verbs: decide on the ledger, write the promise down, carry it out. Between the decision and the promise
nothing is awaited, so that no other request can come in between.

Imports the decisions, the ledger and the binder.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from arbiter.ids import NodeName
from arbiter_extender.binder import Binder
from arbiter_extender.decision import FilterAnswer, FilterPlan, Refusal, filter_nodes, plan_bind, prioritize
from arbiter_extender.errors import BadRequestError, BindError
from arbiter_extender.ledger import Ledger, claimant
from arbiter_extender.messages import (
    MAX_SCORE,
    ExtenderArgs,
    ExtenderBindingArgs,
    ExtenderFilterResult,
    HostPriority,
)
from arbiter_extender.metrics import Metrics
from arbiter_extender.promises import SOFT_HOLD, Assignment
from arbiter_kube.api.occupancy import NodeOccupancy
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.client import KubeError


class Extender:
    """Answers kube-scheduler. Pods that ask for no GPU memory pass everywhere.

    `clock` counts seconds and is never set; `epoch_clock` counts them since the epoch, as the system has them now.
    """

    def __init__(
        self,
        ledger: Ledger,
        binder: Binder,
        *,
        filter_answer: FilterAnswer,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        epoch_clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._binder = binder
        self._filter_answer = filter_answer
        self._metrics = metrics
        self._clock = clock
        self._epoch_clock = epoch_clock

    def filter(self, args: ExtenderArgs) -> ExtenderFilterResult:
        """Which nodes have room.

        Raises:
            BadRequestError: the request names no nodes.
        """
        names = _names(args)
        pod = claimant(args.pod, unit=self._ledger.unit)
        if pod is None:
            return ExtenderFilterResult(node_names=tuple(names))
        self._expire()
        plan = filter_nodes(self._ledger, pod, names, answer=self._filter_answer)
        if plan.hold is not None:
            self._hold(pod, plan.hold)
        self._count(plan)
        return ExtenderFilterResult(
            node_names=plan.passed,
            failed_nodes=plan.failed,
            failed_and_unresolvable_nodes=plan.unresolvable,
        )

    def prioritize(self, args: ExtenderArgs) -> list[HostPriority]:
        """All of the score to the best node: kube-scheduler breaks ties at random. Nodes that are left out get none.

        Raises:
            BadRequestError: the request names no nodes.
        """
        names = _names(args)
        pod = claimant(args.pod, unit=self._ledger.unit)
        if pod is None:
            return []
        self._expire()
        best = self._ledger.assigned(pod.uid)
        if best is None:
            best = prioritize(self._ledger, pod, names)
            if best is not None:
                self._hold(pod, best)
        return [HostPriority(best.node, MAX_SCORE)] if best is not None and best.node in names else []

    async def bind(self, args: ExtenderBindingArgs) -> None:
        """Binds a pod to a node, with GPUs of that node.

        Raises:
            BindError: it is not bound, or not known to be; in one sentence.
        """
        pod = self._ledger.pod(args.uid) or await self._look_up(args)
        if pod is None:
            await self._binder.bind_without_vram(args.key, uid=args.uid, node=args.node)
            return
        self._expire()
        plan = plan_bind(self._ledger, pod, args.node)
        if isinstance(plan, Refusal):
            raise BindError(plan.sentence)
        if self._ledger.assigned(pod.uid) is None:
            self._ledger.assume(pod, plan)
        await self._binder.bind(pod, plan)

    def view(self) -> Iterator[tuple[NodeName, NodeOccupancy]]:
        """The ledger as it is, for people, node by node."""
        self._expire()
        for name in self._ledger.nodes():
            there = self._ledger.occupancy(name)
            if there is not None:
                yield name, there

    async def _look_up(self, args: ExtenderBindingArgs) -> GpuPod | None:
        """A pod that neither the watch nor a filter call has shown: this process started in between."""
        try:
            found = await self._binder.look_up(args.key, args.uid)
        except KubeError as error:
            raise BindError(f"{args.key} is not bound to {args.node}: {error}") from error
        if found is None:
            raise BindError(f"{args.key} was deleted before it was bound to {args.node}.")
        return claimant(found, unit=self._ledger.unit)

    def _hold(self, pod: GpuPod, assignment: Assignment) -> None:
        self._ledger.hold(pod, assignment, until=self._clock() + SOFT_HOLD)

    def _expire(self) -> None:
        self._ledger.expire(self._clock(), epoch=self._epoch_clock())

    def _count(self, plan: FilterPlan) -> None:
        if not plan.passed:
            reasons = Counter((*plan.failed.values(), *plan.unresolvable.values()))
            for reason, _ in reasons.most_common(1):
                self._metrics.rejects.labels(reason.name).inc()


def _names(args: ExtenderArgs) -> Sequence[NodeName]:
    if args.node_names is None:
        raise BadRequestError("NodeNames is missing; set nodeCacheCapable: true for this extender.")
    return args.node_names
