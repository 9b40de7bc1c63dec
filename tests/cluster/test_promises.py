"""200 random arrivals, departures and edits, while Arbiter's processes and the kubelet are killed in turn.

What every container was told and did is read from its own journal; at no instant may the bytes that the containers
of a GPU might use together exceed it.

One failure is the kubelet's own: a pod whose admission it was just asking the device plugin about when that was
killed ends as UnexpectedAdmissionError, whatever the plugin. The test makes such a pod anew, as a controller would.
"""

import itertools
import json
import os
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from arbiter.equilibrium import Member, solve
from arbiter.ids import GpuUuid, PodUid
from arbiter.policy import Policy
from hack.cluster.cluster import Cluster
from hack.cluster.errors import CommandError
from hack.journal import peak_use
from tests.cluster.audit import audited
from tests.cluster.chronicle import Chronicle
from tests.cluster.workloads import Workload, as_yaml

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]

NODES, GPUS = 2, "12Gi,24Gi"
CHANGES = 200
CHANGES_BETWEEN_KILLS = 12
DOWN_SECONDS = 2.0
AWAY_SECONDS = 6.0  # until the new one has registered
CONVERGED_SECONDS = 30.0
MOST_PODS = 10
VICTIMS = (
    "operator",
    "extender",
    "arbiter-scheduler",
    "device-plugin/gpu-1",
    "kubelet/gpu-1",
    "device-plugin/gpu-2",
    "kubelet/gpu-2",
)
TYPES = ("LlmInference", "ImageGeneration", "VideoGeneration")
PRIORITIES = ("Background", "Low", "Normal", "High", "Critical")


@dataclass(slots=True)
class Life:
    """The pods that this test made, and what was seen of them."""

    cluster: Cluster
    chance: random.Random
    alive: dict[str, Workload] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    evicted: set[str] = field(default_factory=set)
    kills: list[tuple[str, float]] = field(default_factory=list)
    restarted: set[str] = field(default_factory=set)
    gpus_of: dict[str, tuple[str, ...]] = field(default_factory=dict)
    names: Iterator[int] = field(default_factory=itertools.count)

    def change(self) -> None:
        """One random arrival, departure or edit."""
        actions = [self.edit, self.depart] if self.alive else []
        if len(self.alive) < MOST_PODS:
            actions += [self.arrive] * (3 if len(self.alive) < MOST_PODS // 2 else 1)
        self.chance.choice(actions)()

    def arrive(self) -> None:
        """A new pod with a demand of its own."""
        kind = self.chance.choice(TYPES)
        full = self.chance.randrange(2, 15)
        workload = Workload(
            name=f"pod-{next(self.names)}",
            workload_type=kind,
            priority=self.chance.choice(PRIORITIES),
            full=f"{full}Gi",
            floor=f"{full * self.chance.randrange(40, 80) // 100 + 1}Gi",
            apply_seconds=self.chance.choice((0.0, 0.1, 0.5, 2.0)),
            gpu_count=self.chance.choice((1, 1, 1, 1, 1, 2)),
        )
        self._patiently("apply", "-f", "-", stdin=as_yaml(workload.allocation, workload.pod))
        self.alive[workload.name] = workload

    def depart(self) -> None:
        """A pod is deleted, now and then by force."""
        name = self.chance.choice(sorted(self.alive))
        force = ("--force", "--grace-period=0") if self.chance.random() < 0.2 else ()
        self._patiently("delete", "pod", name, "--wait=false", "--ignore-not-found", *force)
        self._patiently("delete", "gpua", name, "--wait=false")
        del self.alive[name]

    def edit(self) -> None:
        """An allocation gets another priority or full size while its pod runs."""
        name = self.chance.choice(sorted(self.alive))
        workload = self.alive[name]
        if self.chance.random() < 0.5:
            changed = workload.asking(priority=self.chance.choice(PRIORITIES))
        else:
            least = int(str(workload.floor).removesuffix("Gi"))
            changed = workload.asking(full=f"{self.chance.randrange(least, 16)}Gi")
        self._patiently("patch", "gpua", name, "--type=merge", "--patch", json.dumps({"spec": changed.spec}))
        self.alive[name] = changed

    def look(self) -> list[dict[str, Any]]:
        """Every pod as it is now, remembering what must not have happened."""
        self._let_evicted_go()
        answer = self.cluster.control_plane.get("/api/v1/namespaces/default/pods")
        pods: list[dict[str, Any]] = json.loads(answer)["items"] if answer else []
        for pod in pods:
            uid, name = pod["metadata"]["uid"], pod["metadata"]["name"]
            # What this test deleted ends as its engine ended: one that is killed while it starts has not succeeded.
            if pod["status"]["phase"] == "Failed" and name in self.alive:
                if self._was_being_admitted(pod):
                    self._make_anew(self.alive[name])
                else:
                    self.failed.add(f"{name}: {pod['status']}")
            if any(status["restartCount"] for status in pod["status"].get("containerStatuses", [])):
                self.restarted.add(name)
            if gpus := pod["metadata"].get("annotations", {}).get("arbiter.infernum.io/gpus"):
                self.gpus_of[uid] = tuple(gpus.split(","))
        return pods

    def kill(self, component: str) -> None:
        """Ends a process as the kernel would, and starts it again a little later."""
        print(f"kill -9 {component}")
        self.kills.append((component, time.time()))
        self.cluster.kill(component)
        time.sleep(DOWN_SECONDS)
        self.cluster.start(component)

    def _let_evicted_go(self) -> None:
        """Forgets the pods that the operator evicted, each for a more important one that had no room."""
        for event in audited(self.cluster):
            reference = event["objectRef"]
            is_eviction = reference.get("subresource") == "eviction" and "dryRun" not in event["requestURI"]
            if is_eviction and event["responseStatus"]["code"] == 201 and reference["name"] in self.alive:
                self.evicted.add(reference["name"])
                self._patiently("delete", "gpua", reference["name"], "--wait=false")
                del self.alive[reference["name"]]

    def _was_being_admitted(self, pod: dict[str, Any]) -> bool:
        """Whether the kubelet asked about the pod while its node's device plugin was killed and away."""
        if pod["status"].get("reason") != "UnexpectedAdmissionError":
            return False
        plugin = f"device-plugin/{pod['spec']['nodeName']}"
        at = datetime.fromisoformat(pod["status"]["startTime"]).timestamp()
        return any(
            plugin == component and killed - 1 <= at <= killed + AWAY_SECONDS for component, killed in self.kills
        )

    def _make_anew(self, workload: Workload) -> None:
        print(f"{workload.name} was being admitted when the device plugin was killed: made anew")
        self._patiently("delete", "pod", workload.name, "--timeout=30s")
        self._patiently("apply", "-f", "-", stdin=as_yaml(workload.pod))

    def _patiently(self, *arguments: str, stdin: str | None = None) -> None:
        """Repeats while the webhook is down, as any controller would; everything that is asked for is idempotent."""
        for _ in range(40):
            try:
                self.cluster.kubectl(*arguments, stdin=stdin)
            except CommandError as error:
                if "failed calling webhook" not in str(error):
                    raise
                time.sleep(0.5)
            else:
                return
        raise AssertionError(f"still refused: {arguments}")


def test_no_byte_is_promised_twice_whatever_is_killed(cluster: Cluster) -> None:
    seed = int(os.environ.get("ARBITER_TEST_SEED", random.randrange(10**6)))
    print(f"seed {seed}: ARBITER_TEST_SEED={seed} repeats these changes")
    life = Life(cluster, random.Random(seed))
    victims = itertools.cycle(VICTIMS)
    with Chronicle(cluster) as chronicle:
        for number in range(1, CHANGES + 1):
            life.change()
            if number % CHANGES_BETWEEN_KILLS == 0:
                life.kill(next(victims))
                wait_converged(life, chronicle)
            life.look()
            time.sleep(life.chance.uniform(0.0, 1.0))
        wait_converged(life, chronicle)
        journals = chronicle.journals()

    assert {component for component, _ in life.kills} == set(VICTIMS)
    assert life.failed == set()
    assert life.restarted == set()
    evictions = [line for line in cluster.log("operator").read_text().splitlines() if "pod evicted" in line]
    assert [line for line in evictions if " for=" not in line] == [], "evicted for other reasons than a preemption"
    assert len(journals) >= CHANGES // 8
    for gpu, usable in usable_bytes(cluster).items():
        here = {uid: steps for uid, steps in journals.items() if gpu in life.gpus_of.get(uid, ())}
        peak = peak_use(here)
        last_words = {uid: (held, here[uid][-1]) for uid, held in peak.holders.items()}
        assert peak.vram <= usable, f"seed {seed}: at {peak.time}, {gpu} of {usable} bytes had {last_words}"


def wait_converged(life: Life, chronicle: Chronicle) -> None:
    """Every container that runs was told the equilibrium's quality, and says that it follows it."""
    deadline = time.monotonic() + CONVERGED_SECONDS
    while differences := unlike_the_equilibrium(life, chronicle):
        assert time.monotonic() < deadline, (
            f"not converged {CONVERGED_SECONDS:g} s after the last change: {differences}"
        )
        time.sleep(0.5)


def unlike_the_equilibrium(life: Life, chronicle: Chronicle) -> list[str]:
    """What is not yet as the solver says, by its own words; the demands are those that the test asked for."""
    by_node: dict[str, list[tuple[str, Member]]] = defaultdict(list)
    unlike = []
    for pod in life.look():
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        if "deletionTimestamp" in pod["metadata"] or name not in life.alive:
            unlike.append(f"{name} has not gone yet")
        elif node := pod["spec"].get("nodeName"):
            if uid not in life.gpus_of:
                unlike.append(f"{name} is bound without GPUs")
                continue
            gpus = tuple(GpuUuid(gpu) for gpu in life.gpus_of[uid])
            by_node[node].append((name, Member(uid=PodUid(uid), demand=life.alive[name].demand, gpus=gpus)))
    usable = usable_bytes(life.cluster)
    for members in by_node.values():
        capacities = {gpu: usable[gpu] for _, member in members for gpu in member.gpus}
        targets = solve(capacities, [member for _, member in members], Policy()).targets
        for name, member in members:
            step = chronicle.last_told(member.uid)
            wanted = targets[member.uid].quality
            if step is None or wanted is None or abs(step.quality - float(wanted)) > 0.001:
                unlike.append(f"{name} should be at {wanted and float(wanted)}, was told {step and step.quality}")
    return unlike


def usable_bytes(cluster: Cluster) -> dict[GpuUuid, int]:
    """Usable bytes of every GPU, as its node says."""
    answer = cluster.control_plane.get("/apis/arbiter.infernum.io/v1alpha1/gpunodes")
    assert answer is not None
    nodes = json.loads(answer)["items"]
    return {GpuUuid(gpu["uuid"]): gpu["usable"] for node in nodes for gpu in node["status"]["gpus"]}
