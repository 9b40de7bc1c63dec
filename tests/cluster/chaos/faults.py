"""What befalls processes and GPUs: each fault lasts a while and is over when its function returns."""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from hack.cluster.cluster import Cluster
from tests.cluster.chaos.devices import Devices
from tests.cluster.chaos.meter import Meter

API_SERVER = "kube-apiserver"
DOWN_SECONDS = 2.0


class Kind(StrEnum):
    """How."""

    KILL = "kill -9"
    PAUSE = "pause"
    PARTITION = "partition"
    SMALLER = "a quarter less memory"
    UNHEALTHY = "unhealthy"


OF_GPUS = (Kind.SMALLER, Kind.UNHEALTHY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One, of `seconds`; a partition keeps everybody from the API server. A GPU's component is ``gpu-1/0``."""

    kind: Kind
    component: str
    seconds: float

    def happen(self, cluster: Cluster, meter: Meter, devices: Devices) -> None:
        """Returns when it is over."""
        match self.kind:
            case Kind.KILL:
                # It may be gone a while before this returns, and until then it may have told something.
                devices.killed(self.component, at=time.time())
                cluster.kill(self.component)
                devices.killed(self.component, at=time.time())
                time.sleep(self.seconds)
                cluster.start(self.component)
            case Kind.PAUSE:
                since = time.time()
                cluster.pause(self.component)
                time.sleep(self.seconds)
                cluster.resume(self.component)
                devices.paused(self.component, since=since, until=time.time())
            case Kind.PARTITION:
                with cluster.partition():
                    time.sleep(self.seconds)
            case Kind.SMALLER:
                meter.change(self.component, reserved=meter.total(self.component) // 4)
                time.sleep(self.seconds)
                meter.change(self.component, reserved=0)
            case Kind.UNHEALTHY:
                meter.change(self.component, healthy=False, reason="XID 79")
                time.sleep(self.seconds)
                meter.change(self.component, healthy=True, reason=None)


def faults(
    components: list[str], gpus: list[str], chance: random.Random, *, partition_seconds: float
) -> Iterator[tuple[Fault, Fault]]:
    """Two that happen at once, for ever: each process is killed and paused once before any is again."""
    while True:
        deck = [
            *(Fault(kind=Kind.KILL, component=one, seconds=DOWN_SECONDS) for one in components),
            *(Fault(kind=Kind.PAUSE, component=one, seconds=chance.uniform(1, 8)) for one in components),
            *(Fault(kind=kind, component=chance.choice(gpus), seconds=chance.uniform(3, 12)) for kind in OF_GPUS),
            Fault(kind=Kind.PARTITION, component=API_SERVER, seconds=partition_seconds),
        ]
        if len(deck) % 2:
            deck.append(Fault(kind=Kind.PARTITION, component=API_SERVER, seconds=chance.uniform(1, 8)))
        chance.shuffle(deck)
        while deck:
            first = deck.pop()
            # Of two faults of one process the second might find it gone.
            other = next((one for one in deck if one.component != first.component), None)
            if other is None:
                break
            deck.remove(other)
            yield first, other
