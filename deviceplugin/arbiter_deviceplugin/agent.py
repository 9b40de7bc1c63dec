"""The node's agent: puts the parts together, and tells each of them what the others learn."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from prometheus_client import REGISTRY

from arbiter.ids import GpuUuid, NodeName
from arbiter.policy import Policy
from arbiter.transitions import GpusChanged, PodsListed, PodVanished, PolicyChanged
from arbiter_deviceplugin.access import GpuAccess
from arbiter_deviceplugin.admission import Admission
from arbiter_deviceplugin.allocations import Allocations, Claims
from arbiter_deviceplugin.backends import Backend
from arbiter_deviceplugin.carrier import Carrier
from arbiter_deviceplugin.clock import Clock
from arbiter_deviceplugin.conflicts import foreign_offers
from arbiter_deviceplugin.directory import TOOLS
from arbiter_deviceplugin.disk import Disk
from arbiter_deviceplugin.enforcement import Enforcer
from arbiter_deviceplugin.gpunode import NodeFacts, node_status, unreadable_status
from arbiter_deviceplugin.inventory import Inventory
from arbiter_deviceplugin.kubelet import Kubelet, KubeletError
from arbiter_deviceplugin.metrics import NodeCollector
from arbiter_deviceplugin.monitor import Monitor
from arbiter_deviceplugin.offer import Offer
from arbiter_deviceplugin.plugin import Plugin
from arbiter_deviceplugin.pods import NodePods
from arbiter_deviceplugin.publisher import Publisher
from arbiter_deviceplugin.registration import Registrar
from arbiter_deviceplugin.selection import Selection
from arbiter_deviceplugin.slices import offered
from arbiter_deviceplugin.watch import NO_PROCESSES, ProcessWatch
from arbiter_deviceplugin.wrapper import install
from arbiter_kube.api.gpunode import GpuNodeStatus
from arbiter_kube.api.objects import Node, Pod
from arbiter_kube.api.qualitypolicy import policy_in_force
from arbiter_kube.api.resources import NODES, PODS, QUALITY_POLICIES
from arbiter_kube.client import Applied, Deleted, KubeClient, Reflector, Synced
from arbiter_kube.client.events import EventRecorder

_log = logging.getLogger(__name__)

COMPONENT = "arbiter-device-plugin"

_HOUSEKEEPING = 30.0

_LONGEST_SILENCE = 150.0
"""Of the API server, in seconds: bookmarks come about once a minute, and a watch that is silent for 90 s is renewed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the agent runs; `unit` is the bytes of a slice that it should offer.

    `gpu_access` is how the node's runtime learns which GPUs a container gets; `start_wait` is seconds after which a
    start that has to wait is refused, to be asked for again.
    """

    node: NodeName
    unit: int
    kubelet_dir: Path
    state_dir: Path
    run_dir: Path
    proc_dir: Path
    selection: Selection
    gpu_access: GpuAccess
    start_wait: float


class Agent:
    """One node's agent. `unit` is the slice in force, which may differ from the setting while slices are held."""

    def __init__(
        self, *, settings: Settings, client: KubeClient, inventory: Inventory, backend: Backend, disk: Disk
    ) -> None:
        self._settings = settings
        self._tools = settings.state_dir / TOOLS
        self._gpu_access = settings.gpu_access if backend.shows_gpus else None
        self._backend = backend
        self._inventory = inventory
        self._allocations = Allocations(disk.allocations())
        self._unit = _unit_in_force(disk, wanted=settings.unit, is_held=len(self._allocations) > 0)
        self._kubelet = Kubelet(settings.kubelet_dir)
        self._pods = NodePods(client, node=settings.node, unit=self._unit)
        self._offer = Offer()
        self._clock = Clock()
        self._admission = Admission(
            node=settings.node,
            kubelet=self._kubelet,
            pods=self._pods,
            allocations=self._allocations,
            disk=disk,
            clock=self._clock,
            run_dir=settings.run_dir,
        )
        self._enforcer = Enforcer(backend, inventory)
        self._publisher = Publisher(client, node=settings.node, status=self._status)
        self._carrier = Carrier(
            disk=disk,
            allocations=self._allocations,
            run_dir=settings.run_dir,
            inventory=inventory,
            enforcer=self._enforcer,
            clock=self._clock,
            policy=Policy(),
            names=_names(settings.node, inventory),
            start_wait=settings.start_wait,
            latest=self._pods.asking_of,
            changed=self._note_change,
        )
        self._plugin = Plugin(
            offer=self._offer,
            admission=self._admission,
            carrier=self._carrier,
            gpu_access=self._gpu_access,
            tools=self._tools,
        )
        self._registrar = Registrar(self._kubelet, self._plugin)
        own = f"spec.nodeName={settings.node}"
        self._watched_pods = Reflector(client, PODS, field_selector=own)
        self._watched_policies = Reflector(client, QUALITY_POLICIES)
        self._watched_node = Reflector(client, NODES, field_selector=f"metadata.name={settings.node}")
        self._node: Node | None = None
        self._watch = ProcessWatch(
            kubelet=self._kubelet,
            proc=settings.proc_dir,
            pods=self._pods,
            carrier=self._carrier,
            enforcer=self._enforcer,
            clock=self._clock,
            looked=self._name_offenders,
        )
        self._boot_id = _boot_id(settings.proc_dir)
        self._events = EventRecorder(client, component=COMPONENT)
        self._monitor = Monitor(settings.node)
        REGISTRY.register(NodeCollector(settings.node, self._facts))
        self._pods_listed = asyncio.Event()

    def obstacle(self) -> str | None:
        """What keeps the agent from serving, in one sentence; None if nothing does."""
        return obstacle_of(
            is_listed=self._pods_listed.is_set(),
            silence=self._watched_pods.age(),
            is_registered=self._plugin.is_watched,
            sees_processes=self._watch.sees_processes,
        )

    async def run(self) -> None:
        """Serves until it is cancelled; raises what it cannot go on with."""
        await asyncio.to_thread(install, self._tools)
        self._publish_offer()
        async with asyncio.TaskGroup() as tasks:
            for part in (
                self._carrier.run,
                self._registrar.run,
                self._inventory.run,
                self._follow_gpus,
                self._follow_pods,
                self._follow_policies,
                self._follow_node,
                self._watch_processes,
                self._keep_house,
                self._publish_when_listed,
                self._events.run,
            ):
                tasks.create_task(part(), name=part.__qualname__)

    async def _follow_gpus(self) -> None:
        while True:
            await self._inventory.change()
            self._publish_offer()
            await self._carrier.tell(GpusChanged(self._inventory.usable()))

    async def _follow_pods(self) -> None:
        async for event in self._watched_pods:
            match event:
                case Applied(pod):
                    await self._observe(pod)
                case Deleted(pod):
                    self._pods.remove(pod)
                    await self._carrier.tell(PodVanished(pod.uid))
                case Synced():
                    self._pods.keep(self._watched_pods.objects.keys())
                    uids = frozenset(pod.uid for pod in self._watched_pods.objects.values())
                    await self._carrier.tell(PodsListed(uids))
                    self._pods_listed.set()
            self._watch.wake()

    async def _observe(self, pod: Pod) -> None:
        asking = self._pods.apply(pod)
        if asking is not None and not asking.finished:
            await self._carrier.observe(asking)

    async def _follow_policies(self) -> None:
        async for _ in self._watched_policies:
            await self._apply_policy()

    async def _follow_node(self) -> None:
        async for event in self._watched_node:
            if isinstance(event, Applied):
                self._node = event.object
                self._publish_offer()
                await self._apply_policy()

    async def _apply_policy(self) -> None:
        """Takes the policy in force, once both the policies and the node's labels are known."""
        if self._node is None or not self._watched_policies.synced.is_set():
            return
        chosen = policy_in_force(self._watched_policies.objects.values(), self._node.metadata.labels)
        policy = chosen.spec.policy() if chosen else Policy()
        if policy != self._carrier.policy:
            _log.info("policy in force name=%s mode=%s", chosen.metadata.name if chosen else "", policy.mode)
            self._carrier.policy = policy
            await self._carrier.tell(PolicyChanged(policy))

    async def _watch_processes(self) -> None:
        await self._pods_listed.wait()
        await self._watch.run()

    def _name_offenders(self) -> None:
        facts = self._facts()
        for notice in self._monitor.look(facts.grants, facts.pods, facts.reading):
            self._events.record(notice)

    async def _keep_house(self) -> None:
        """Now and then: what the kubelet says, directories that somebody removed, allocations that nobody has."""
        await self._pods_listed.wait()
        while True:
            await self._carrier.ensure_directories()
            if not self._admission.is_admitting:
                await self._clean_up()
            await asyncio.sleep(_HOUSEKEEPING)

    async def _clean_up(self) -> None:
        try:
            listed = await self._admission.list_containers()
        except KubeletError as error:
            _log.warning("kubelet's slices unknown error=%s", error)
            return
        self._publisher.wake()
        claims = Claims(
            slices=frozenset(slice_ for container in listed for slice_ in container.slices),
            uids=frozenset(self._pods.by_uid()) | {status.uid for status in self._carrier.statuses()},
        )
        for allocation in self._allocations.stale(claims, now=self._clock.now()):
            await self._carrier.discard(allocation)
        self._publish_offer()

    async def _publish_when_listed(self) -> None:
        await self._pods_listed.wait()
        await self._publisher.run()

    def _note_change(self) -> None:
        """After each event of the engine."""
        self._publisher.wake()
        if self._watch.is_awaiting:
            self._watch.wake()

    def _publish_offer(self) -> None:
        slices = offered(
            self._inventory.reading.gpus,
            unit=self._unit,
            withheld=bool(self._foreign()) and not self._settings.selection.devices,
            held=self._allocations.taken(),
        )
        self._offer.publish(slices)
        self._publisher.wake()

    def _foreign(self) -> tuple[str, ...]:
        return foreign_offers(self._node.status.allocatable) if self._node else ()

    def _status(self, before: GpuNodeStatus | None, now: datetime) -> GpuNodeStatus:
        return node_status(self._facts(), before=before, now=now)

    def _facts(self) -> NodeFacts:
        grants = self._carrier.statuses()
        pods = {status.uid: pod for status in grants if (pod := self._carrier.pod(status.uid))}
        return NodeFacts(
            version=version("arbiter"),
            boot_id=self._boot_id,
            vendor=self._backend.vendor,
            unit=self._unit,
            wanted_unit=self._settings.unit,
            reading=self._inventory.reading,
            grants=grants,
            pods=pods,
            listed=self._admission.listed,
            foreign=self._foreign(),
            devices=self._settings.selection.devices,
            isolation=self._gpu_access.isolation if self._gpu_access else "none",
            rungs={gpu.uuid: self._enforcer.rung(gpu) for gpu in self._inventory.reading.gpus},
        )


def obstacle_of(*, is_listed: bool, silence: float, is_registered: bool, sees_processes: bool) -> str | None:
    """The first thing that keeps an agent from serving; `silence` is seconds since the API server told of pods."""
    if not is_listed:
        return "the pods of this node have not been listed yet"
    if silence > _LONGEST_SILENCE:
        return f"the API server has said nothing of this node's pods for {silence:.0f} s"
    if not is_registered:
        return "not registered with the kubelet"
    return None if sees_processes else NO_PROCESSES


async def serve(settings: Settings, *, client: KubeClient, backend: Backend, ready: Callable[[Agent], None]) -> None:
    """Runs an agent until it is cancelled; `ready` gets it once the GPUs could be read.

    Raises:
        StateError: the state directory cannot be read.
    """
    inventory = Inventory(backend, settings.selection)
    try:
        await _first_reading(inventory, client=client, node=settings.node)
        agent = Agent(
            settings=settings, client=client, inventory=inventory, backend=backend, disk=Disk(settings.state_dir)
        )
        ready(agent)
        await agent.run()
    finally:
        await backend.close()


async def _first_reading(inventory: Inventory, *, client: KubeClient, node: NodeName) -> None:
    """Reads the GPUs for the first time; as long as that cannot be done, the GpuNode says why."""
    if await inventory.refresh() is not None:
        return

    def status(before: GpuNodeStatus | None, now: datetime) -> GpuNodeStatus:
        return unreadable_status(before, why=inventory.trouble, now=now)

    publisher = Publisher(client, node=node, status=status)
    telling = asyncio.create_task(publisher.run())
    try:
        await inventory.first(failed=publisher.wake)
    finally:
        telling.cancel()
        await asyncio.wait([telling])


def _unit_in_force(disk: Disk, *, wanted: int, is_held: bool) -> int:
    """The bytes of a slice: a new setting waits until nobody holds slices of the old one."""
    known = disk.unit()
    if known is not None and known != wanted and is_held:
        _log.warning("vram unit kept, slices are held unit=%d setting=%d", known, wanted)
        return known
    if known != wanted:
        disk.save_unit(wanted)
    return wanted


def _names(node: NodeName, inventory: Inventory) -> Mapping[GpuUuid, str]:
    return {gpu.uuid: f"{node}/{gpu.index}" for gpu in inventory.reading.gpus}


def _boot_id(proc: Path) -> str:
    try:
        return (proc / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
