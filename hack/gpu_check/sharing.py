"""Two processes share one real GPU through the transition engine: real bytes, real measurements, the engine's rules.

A minimal shell of the engine: it carries actions out one after another, as the node's agent does, with processes in
the place of containers.
"""

import asyncio
import time
from collections.abc import Mapping
from fractions import Fraction
from typing import assert_never

from arbiter.demand import DemandRequest, resolve
from arbiter.ids import PodUid
from arbiter.policy import Policy
from arbiter.transitions import (
    Acknowledged,
    Action,
    Ended,
    Engine,
    Event,
    Forget,
    Gated,
    Grant,
    Measure,
    Measured,
    PodObserved,
    PodsListed,
    Publish,
    Refuse,
    Release,
    Save,
    ShrinkOverdue,
    StartRequested,
    Target,
    Tick,
)
from arbiter.transitions.confirmation import TOLERANCE
from arbiter.units import GIB, MIB
from arbiter.workload import WorkloadType
from arbiter_deviceplugin.backends import Gpu
from arbiter_deviceplugin.backends.nvml import NvmlBackend
from hack.gpu_check.holder import CHUNK
from hack.gpu_check.processes import View
from hack.gpu_check.report import Report, mib
from hack.gpu_check.sharer import Sharer, SharingError

COLUMNS = ("s", "what", "chat may hold", "measured", "posters may hold", "measured", "GPU used")

_PATIENCE = 90.0
_LOOKS = 40
_EXCESS = 1 * GIB
_MARGIN = 512 * MIB
"""Left free beside what is shared: two contexts and the driver take some that no process is said to have."""


class Shell:
    """The engine, its sharers, and what the driver shows of them."""

    def __init__(self, *, report: Report, gpu: Gpu, capacity: int, view: View, backend: NvmlBackend) -> None:
        self.report = report
        self.capacity = capacity
        self.sharers: dict[PodUid, Sharer] = {}
        self.most_used = self.most_held = 0
        self.is_measured = True
        self._gpu = gpu.uuid
        self._view = view
        self._backend = backend
        self._began = time.monotonic()
        policy = Policy(restore_interval=1.0)
        self._engine = Engine(usable={gpu.uuid: capacity}, policy=policy, now=time.monotonic())
        self._grants: dict[PodUid, Grant] = {}
        self._started: set[PodUid] = set()

    def part(self, share: Fraction) -> int:
        """A share of the capacity, in whole MiB."""
        return int(self.capacity * share) // MIB * MIB

    async def decide(self, sharer: Sharer, share: Fraction) -> None:
        """What an operator would do: a target for a sharer, as a share of the capacity."""
        quality, vram = sharer.demand.fitting(self.part(share))
        target = Target(quality=quality, vram=vram)
        gpus = (self._gpu,)
        pod = PodObserved(
            uid=sharer.uid, name=sharer.name, demand=sharer.demand, gpus=gpus, bound_at=0.0, target=target
        )
        await self.tell(pod)

    async def tell(self, event: Event) -> None:
        """Tells the engine and carries out what follows."""
        for action in self._engine.handle(event, time.monotonic()):
            await self._carry_out(action)
        self.most_held = max(self.most_held, sum(status.held for status in self._engine.statuses()))

    async def until(self, what: str, shares: Mapping[Sharer, Fraction]) -> None:
        """Lets time pass until each of them holds its share, and reports the moment.

        Raises:
            SharingError: it does not come to pass.
        """
        wanted = {sharer: sharer.demand.fitting(self.part(share))[1] for sharer, share in shares.items()}
        deadline = time.monotonic() + _PATIENCE
        while any(self.held(sharer) != size for sharer, size in wanted.items()):
            if time.monotonic() > deadline:
                raise SharingError(f"{what}: this did not come to pass within {_PATIENCE:g} s.")
            await self.tell(Tick())
            await asyncio.sleep(0.05)
        await self.moment(what)

    async def moment(self, what: str) -> None:
        """Reports what everybody holds and uses now."""
        gpu = await self.read()
        cells = [f"{time.monotonic() - self._began:.1f}", what]
        for sharer in self.sharers.values():
            cells += [mib(self.held(sharer)), mib(self.use(sharer, gpu))]
        self.report.row(*cells, mib(gpu.used))

    async def read(self) -> Gpu:
        """The GPU now."""
        gpu = next(gpu for gpu in (await self._backend.read()).gpus if gpu.uuid == self._gpu)
        self.most_used = max(self.most_used, gpu.used or 0)
        self.is_measured = self.is_measured and gpu.use is not None
        return gpu

    def held(self, sharer: Sharer) -> int:
        """What it may hold."""
        return next((status.held for status in self._engine.statuses() if status.uid == sharer.uid), 0)

    def use(self, sharer: Sharer, gpu: Gpu) -> int | None:
        """What it is seen to use; None where nobody can tell."""
        return None if gpu.use is None else gpu.use.get(sharer.uid, 0)

    async def _carry_out(self, action: Action) -> None:
        match action:
            case Publish(uid, grant):
                self._grants[uid] = grant
                if uid in self._started:
                    await self._apply(uid)
            case Release(uid, _):
                await self._start(uid)
            case Refuse(uid, _, sentence):
                raise SharingError(f"{self.sharers[uid].name}: {sentence}.")
            case Measure(uid):
                at = time.monotonic()
                use = self.use(self.sharers[uid], await self.read())
                await self.tell(Measured(uid=uid, vram=use, at=at))
            case ShrinkOverdue(uid, excess):
                raise SharingError(f"{self.sharers[uid].name} has not given {mib(excess)} back in time.")
            case Save() | Forget() | Gated():
                pass
            case _:
                assert_never(action)

    async def _start(self, uid: PodUid) -> None:
        sharer = self.sharers[uid]
        before = (await self.read()).used or 0
        await sharer.start(self._gpu, self._view)
        for _ in range(_LOOKS):
            gpu = await self.read()
            # The larger one: a driver may count some of a context's memory with nobody.
            sharer.overhead = max(self.use(sharer, gpu) or 0, (gpu.used or 0) - before)
            if sharer.overhead > 0:
                break
            await asyncio.sleep(0.05)
        self.report.fact(f"the context of {sharer.name} takes {mib(sharer.overhead)} before it allocates anything")
        self._started.add(uid)
        await self._apply(uid)

    async def _apply(self, uid: PodUid) -> None:
        sharer, grant = self.sharers[uid], self._grants[uid]
        await sharer.hold(grant.vram)
        beyond = await self._beyond(sharer, grant.vram)
        if beyond > 0:  # a context grows with what it maps
            sharer.overhead += beyond
            await sharer.hold(grant.vram)
        await self.tell(Acknowledged(uid=uid, revision=grant.revision, vram=grant.vram))

    async def _beyond(self, sharer: Sharer, size: int) -> int:
        """Bytes that it still uses beyond a size, after a moment in which they may vanish."""
        beyond = 0
        for _ in range(_LOOKS):
            beyond = (self.use(sharer, await self.read()) or 0) - size
            if beyond <= 0:
                break
            await asyncio.sleep(0.05)
        return beyond


async def share(report: Report, gpu: Gpu, view: View) -> None:
    """Two sharers come and go on this GPU; reports every moment, and whether the engine's promises held.

    Raises:
        SharingError: the sharing could not be carried through.
        BackendError: the GPU cannot be read any more.
    """
    backend = NvmlBackend(proc=view.directory)
    capacity = (gpu.usable - (gpu.used or 0) - _MARGIN) // CHUNK * CHUNK
    report.fact(f"{mib(capacity)} of GPU {gpu.index} are shared")
    shell = Shell(report=report, gpu=gpu, capacity=capacity, view=view, backend=backend)
    try:
        await _play(shell)
    finally:
        for sharer in shell.sharers.values():
            await sharer.end()
        await backend.close()


async def _play(shell: Shell) -> None:
    before = (await shell.read()).used or 0
    chat = _join(shell, "chat", WorkloadType.LLM_INFERENCE, full=Fraction(4, 5), floor=Fraction(3, 10))
    posters = _join(shell, "posters", WorkloadType.IMAGE_GENERATION, full=Fraction(3, 5), floor=Fraction(1, 5))
    await shell.decide(chat, Fraction(4, 5))
    await shell.tell(PodsListed(frozenset({chat.uid})))
    await shell.tell(StartRequested(chat.uid))
    await shell.until("chat runs alone at its full size", {chat: Fraction(4, 5)})

    await shell.decide(chat, Fraction(1, 2))
    await shell.decide(posters, Fraction(1, 2))
    await shell.tell(StartRequested(posters.uid))
    await shell.until("posters came: chat shrank, then posters grew", dict.fromkeys((chat, posters), Fraction(1, 2)))

    await shell.decide(chat, Fraction(2, 5))
    await shell.decide(posters, Fraction(3, 5))
    await shell.until("posters is at its full size", {chat: Fraction(2, 5), posters: Fraction(3, 5)})

    await posters.end()
    await shell.tell(Ended(posters.uid))
    await shell.decide(chat, Fraction(4, 5))
    await shell.until("posters is gone: chat has its full size again", {chat: Fraction(4, 5)})
    _judge(shell, used=shell.most_used - before)
    await _overstep(shell, chat)


def _join(shell: Shell, name: str, kind: WorkloadType, *, full: Fraction, floor: Fraction) -> Sharer:
    request = DemandRequest(workload_type=kind, full=shell.part(full), floor=shell.part(floor))
    sharer = Sharer(name, resolve(request))
    shell.sharers[sharer.uid] = sharer
    return sharer


def _judge(shell: Shell, *, used: int) -> None:
    report, capacity = shell.report, shell.capacity
    held = f"at most {mib(shell.most_held)} of {mib(capacity)}"
    report.check("what both may hold never exceeds what is shared", holds=shell.most_held <= capacity, seen=held)
    seen = f"at most {mib(used)} in use, no allocation failed"
    report.check("real memory never exceeds it either", holds=used <= capacity + _MARGIN, seen=seen)
    report.check(
        "each process's memory is measured, by its control group",
        holds=True if shell.is_measured else None,
        seen="as below" if shell.is_measured else "the driver's process ids are not those of /proc here",
    )


async def _overstep(shell: Shell, chat: Sharer) -> None:
    """Chat takes more than it may hold: the rung `monitor` has to see it."""
    held = shell.held(chat)
    await chat.hold(held + _EXCESS)
    use = None
    for _ in range(_LOOKS):
        use = shell.use(chat, await shell.read())
        if use is None or use > held + TOLERANCE:
            break
        await asyncio.sleep(0.05)
    await shell.moment(f"chat takes {mib(_EXCESS)} more than it may hold")
    is_seen = None if use is None else use > held + TOLERANCE
    shell.report.check("a process that takes more than it may hold is seen", holds=is_seen, seen=f"measured {mib(use)}")
    await chat.hold(held)
