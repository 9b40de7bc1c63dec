"""How long nobody decides when the leader of two replicas is killed, stands still, or is told to end.

A real API server, the chart's lease; a pod is bound in the moment in which the leader goes.
"""

import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from arbiter_kube.api import annotations as a
from arbiter_kube.api.resources import PODS
from tests.bench.extender_site import manifest
from tests.bench.operator_site import LEASE_SECONDS, Bench, real
from tests.component.operator.support import Operator, eventually
from tests.unit.extender.builders import a_pod

pytestmark = pytest.mark.timeout(300)

ROUNDS = 3
NODE = "replicas"
LEADING = "leading lease=arbiter-system/arbiter-operator"

GOING: dict[str, tuple[Callable[[Operator], object], Callable[[Operator], object]]] = {
    "kill -9": (Operator.kill, Operator.start),
    "SIGSTOP": (Operator.pause, Operator.resume),
    "SIGTERM": (Operator.stop, Operator.start),
}
"""How a leader goes, and how it comes back."""


def test_the_next_one_takes_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with real(tmp_path) as bench:
        bench.operator.start()
        bench.run(bench.operator.logs(LEADING))
        other = bench.operator.replica(tmp_path / "other.log")
        other.start()
        gpu, numbers = bench.run(bench.add_node(NODE)), count()
        leader, follower = bench.operator, other
        try:
            for what, (go, come_back) in GOING.items():
                taken = []
                for _ in range(ROUNDS):
                    bench.run(follower.ready())
                    go(leader)
                    gone_at = time.perf_counter()
                    bench.run(_told(bench, f"arrival-{next(numbers)}", gpu))
                    taken.append(time.perf_counter() - gone_at)
                    come_back(leader)
                    leader, follower = follower, leader
                with capsys.disabled():
                    print(
                        f"\noperator, two replicas, lease of {LEASE_SECONDS} s: a target is written "
                        f"{'/'.join(f'{each:.1f}' for each in sorted(taken))} s after {what} of the leader (aim: 15)",
                        end="",
                        flush=True,
                    )
        finally:
            other.stop()


async def _told(bench: Bench, name: str, gpu: str) -> None:
    """Returns once a new pod on the GPU has been told its target."""
    pod = manifest(a_pod(name).sizes(full="1Gi", floor="1Gi"), node=NODE, gpu=gpu)
    await bench.client.create(PODS, pod, namespace="default")

    async def look() -> bool | None:
        found = await bench.client.get(PODS, name, namespace="default")
        return True if a.QUALITY_TARGET in found.metadata.annotations else None

    await eventually(look, f"target of {name}")
