"""The whole agent on NVIDIA's GPUs: a stub plays their driver, a directory of ours the host's processes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from arbiter.units import GIB
from arbiter_kube.api.objects import Event
from arbiter_kube.api.resources import EVENTS
from tests.component.deviceplugin.support import Running, Site, eventually
from tests.support.nvml_stub import XID, NvmlStub, StubGpu, StubProcess, build
from tests.unit.extender.builders import a_pod

ZERO, ONE = (StubGpu(uuid=f"GPU-{number}", total=12 * GIB) for number in range(2))


@pytest.fixture
def stub(tmp_path: Path) -> NvmlStub:
    stub = NvmlStub(build(tmp_path), tmp_path / "script")
    stub.write(ZERO, ONE)
    return stub


@pytest.fixture
def flags(stub: NvmlStub, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    for name in ("LD_LIBRARY_PATH", "NVML_STUB"):
        monkeypatch.setenv(name, stub.environment[name])
    return "--backend", "nvml"


def using(stub: NvmlStub, running: Running) -> Callable[[int], None]:
    """Lets the container's process use so many GiB of GPU-0."""

    def use(size: int) -> None:
        process = StubProcess(pid=running.process, used=size * GIB)
        stub.write(StubGpu(uuid="GPU-0", total=12 * GIB, used=size * GIB, processes=(process,)), ONE)

    return use


async def test_a_faulty_gpu_takes_its_own_slices_away_and_one_that_hangs_keeps_no_pod_from_starting(
    site: Site, stub: NvmlStub
) -> None:
    slices = {f"GPU-{gpu}::{number}" for gpu in range(2) for number in range(12)}
    assert await eventually(lambda: site.kubelet.healthy, "offered slices") == slices

    stub.happen("GPU-1", XID, 79)
    await eventually(lambda: site.kubelet.healthy == {f"GPU-0::{number}" for number in range(12)}, "XID's effect")
    assert set(site.kubelet.devices) == slices

    stub.write(ZERO, ONE, rules=["hang * GPU-1"])
    await site.run(a_pod("chat"))


async def test_a_shrink_counts_once_the_container_was_measured_to_have_shrunk(site: Site, stub: NvmlStub) -> None:
    running = await site.run(a_pod("chat").sizes(full="10Gi", floor="4Gi"))
    use = using(stub, running)
    use(9)

    async def is_read() -> bool:
        return await site.agent.metric("arbiter_gpu_vram_bytes", node=site.node, gpu="GPU-0", state="used") == 9 * GIB

    await eventually(is_read, "reading")
    await running.engine.acknowledge()
    await site.set_target(running.pod, "0.400", 4 * GIB, revision=2)
    told = await running.engine.ask(after=running.engine.target["revision"])
    assert told["vramBytes"] == 4 * GIB
    await running.engine.acknowledge(told)

    grant = await site.eventually_grant(running.pod, lambda grant: grant.applied == 4 * GIB, "acknowledgement")
    assert (grant.measured, grant.held) == (9 * GIB, 10 * GIB)

    use(4)
    await site.eventually_grant(running.pod, lambda grant: grant.held == 4 * GIB, "confirmed shrink")
    status = await site.status()
    assert status is not None
    assert [(gpu.enforcement, gpu.confirmation) for gpu in status.gpus] == [("monitor", "measured")] * 2


async def test_a_container_that_uses_more_than_it_may_hold_is_named_in_event_condition_and_metric(
    site: Site, stub: NvmlStub
) -> None:
    running = await site.run(a_pod("chat").sizes(full="8Gi", floor="4Gi"))
    using(stub, running)(11)
    name = f"{site.namespace}/chat"

    async def condition() -> str | None:
        status = await site.status()
        found = (
            [c for c in status.conditions if c.type == "MeasuredAboveGrant" and c.status == "True"] if status else []
        )
        return found[0].message if found else None

    assert await eventually(condition, "condition") == f"more memory than they may hold is used by {name} (on GPU-0)."

    async def event() -> Event | None:
        events = await site.client.list(EVENTS, namespace=site.namespace)
        return next((event for event in events if event.reason == "MeasuredAboveGrant"), None)

    told: Event = await eventually(event, "event")
    assert (told.involved_object.name, told.type, told.source.component) == ("chat", "Warning", "arbiter-device-plugin")
    assert told.message == (
        f"uses 11264Mi of GPU-0 on {site.node} and may hold 8192Mi: it takes memory that was promised to others."
    )
    above = await site.agent.metric(
        "arbiter_measured_above_grant_bytes", node=site.node, namespace=site.namespace, pod="chat"
    )
    assert above == 3 * GIB


async def test_gpus_are_given_by_name_to_a_runtime_that_takes_names(site: Site, flags: tuple[str, ...]) -> None:
    assert site.agent.stop() == 0
    site.agent.start(*flags, "--gpu-access", "cdi")
    await site.agent.ready()
    await site.add_pod(a_pod("chat"), gpus=("GPU-1",))

    container = await site.kubelet.admit(site.namespace, "chat", size=4)

    assert [device.name for device in container.allocated.cdi_devices] == ["nvidia.com/gpu=GPU-1"]
    assert dict(container.allocated.envs) == {"ARBITER_DIR": "/run/arbiter", "NVIDIA_VISIBLE_DEVICES": "void"}

    async def is_said() -> bool:
        status = await site.status()
        return status is not None and {gpu.isolation for gpu in status.gpus} == {"cdi"}

    await eventually(is_said, "isolation in GpuNode")
