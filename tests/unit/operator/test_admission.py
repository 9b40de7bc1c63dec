from copy import deepcopy
from fractions import Fraction
from typing import Any

import msgspec
import pytest

from arbiter.demand import NO_POLICY, Demand, DemandDefaults
from arbiter.units import GIB, MIB
from arbiter.workload import Priority, Resize, WorkloadType
from arbiter_kube.api import annotations as a
from arbiter_kube.api.annotations import FrozenDemand
from arbiter_kube.api.objects import Pod
from arbiter_kube.api.pods import fixed_demand
from arbiter_operator.admission.decision import Admission, Named, allocation_named, decide
from arbiter_operator.admission.errors import RefusedError
from tests.unit.operator.builders import allocation, pod_manifest

INLINE = {"workload-type": "LlmInference", "priority": "High", "vram-full": "10Gi", "vram-floor": "4Gi"}
TWO = [{"name": "engine"}, {"name": "web"}]


def admit(
    manifest: dict[str, Any],
    *,
    found: bool = True,
    others: tuple[str, ...] = (),
    defaults: DemandDefaults = NO_POLICY,
    **spec: Any,
) -> Admission:
    pod = msgspec.convert(manifest, Pod)
    name = allocation_named(pod)
    named = None if name is None else Named(name=name, found=allocation(name, **spec) if found else None, others=others)
    return decide(pod, named=named, defaults=defaults, unit=GIB)


def admitted(manifest: dict[str, Any], **how: Any) -> dict[str, Any]:
    changed = deepcopy(manifest)
    admit(manifest, **how).apply(changed)
    return changed


CHAT = Demand(
    workload_type=WorkloadType.LLM_INFERENCE,
    priority=Priority.HIGH,
    full=10 * GIB,
    floor=4 * GIB,
    maximum=Fraction(1),
    minimum=Fraction(2, 5),
)


def test_a_pod_that_names_its_allocation_describes_itself_afterwards() -> None:
    manifest = pod_manifest(annotations={"allocation": "chat"})
    frozen = FrozenDemand(demand=CHAT, container="main", allocation="chat", allocation_uid="uid-chat", generation=7)
    assert admitted(manifest, generation=7) == {
        "metadata": {
            "namespace": "team-a",
            "name": "chat",
            "annotations": {a.ALLOCATION: "chat", a.DEMAND: a.encode_demand(frozen)},
        },
        "spec": {
            "containers": [{"name": "main", "resources": {"limits": {"arbiter.infernum.io/vram": "4"}}}],
            "schedulerName": "arbiter-scheduler",
            "priorityClassName": "arbiter-high",
            "priority": 4000,
            "preemptionPolicy": "Never",
        },
    }


def test_inline_annotations_say_the_same() -> None:
    frozen = admit(pod_manifest(annotations=INLINE)).frozen
    assert frozen == FrozenDemand(demand=CHAT, container="main")


def test_a_floor_is_reserved_in_whole_slices_on_every_gpu() -> None:
    annotations = INLINE | {"vram-floor": "4097Mi", "gpu-count": "2"}
    assert admit(pod_manifest(annotations=annotations)).slices == 10


def test_the_resource_alone_is_a_fixed_demand() -> None:
    admission = admit(pod_manifest(vram="10"))
    assert admission == Admission(
        frozen=FrozenDemand(demand=fixed_demand(10 * GIB), container="main", asked=10), slices=admission.slices
    )
    assert admission.slices == 10


def test_a_template_that_asks_for_the_resource_states_the_floor() -> None:
    annotations = {"workload-type": "LlmInference", "vram-full": "10Gi"}
    frozen = admit(pod_manifest(annotations=annotations, vram="5")).frozen
    assert frozen is not None
    assert (frozen.demand.floor, frozen.demand.minimum) == (5 * GIB, Fraction(1, 2))


def test_a_template_whose_slices_just_cover_full_makes_it_fixed() -> None:
    annotations = {"workload-type": "LlmInference", "vram-full": "9800Mi"}
    frozen = admit(pod_manifest(annotations=annotations, vram="10")).frozen
    assert frozen is not None
    assert (frozen.demand.floor, frozen.demand.full) == (9800 * MIB, 9800 * MIB)


def test_a_template_that_agrees_with_the_floor_is_let_in() -> None:
    assert admit(pod_manifest(annotations=INLINE | {"vram-floor": "3900Mi"}, vram="4")).slices == 4


def test_the_policy_in_force_sets_the_least_quality_and_the_grace() -> None:
    defaults = DemandDefaults(minimum_quality={WorkloadType.LLM_INFERENCE: Fraction(1, 2)}, shrink_grace=7.0)
    frozen = admit(pod_manifest(annotations=INLINE | {"vram-floor": "5Gi"}), defaults=defaults).frozen
    assert frozen is not None
    assert (frozen.demand.minimum, frozen.demand.shrink_grace) == (Fraction(1, 2), 7.0)


def test_an_engine_that_is_sized_at_its_start_reserves_its_full_size() -> None:
    frozen = admit(pod_manifest(annotations={"workload-type": "LlmInference", "resize": "AtStart"})).frozen
    assert frozen is not None
    assert (frozen.demand.resize, frozen.demand.floor) == (Resize.AT_START, 8 * GIB)


@pytest.mark.parametrize(
    ("annotations", "containers"),
    [
        pytest.param(INLINE | {"container": "web"}, TWO, id="as the annotation says"),
        pytest.param(
            INLINE,
            [TWO[0], {"name": "web", "resources": {"limits": {"arbiter.infernum.io/vram": "4"}}}],
            id="as the template says",
        ),
    ],
)
def test_one_of_several_containers_gets_the_memory(
    annotations: dict[str, str], containers: list[dict[str, Any]]
) -> None:
    changed = admitted(pod_manifest(annotations=annotations, containers=containers))
    limits = [container.get("resources", {}).get("limits") for container in changed["spec"]["containers"]]
    assert limits == [None, {"arbiter.infernum.io/vram": "4"}]


def test_limits_and_annotations_of_others_are_kept() -> None:
    containers = [{"name": "main", "resources": {"limits": {"cpu": "2"}}}]
    changed = admitted(pod_manifest(annotations=INLINE | {"example.com/team": "x"}, containers=containers))
    assert changed["metadata"]["annotations"]["example.com/team"] == "x"
    assert changed["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "2", "arbiter.infernum.io/vram": "4"}


@pytest.mark.parametrize(
    ("manifest", "warnings"),
    [
        pytest.param(
            pod_manifest(annotations=INLINE | {"quality-target": "1.000", "revision": "9"}),
            (
                "arbiter.infernum.io/quality-target is written by Arbiter and was left out; "
                "to ask for a minimum write arbiter.infernum.io/quality-minimum.",
                "arbiter.infernum.io/revision is written by Arbiter and was left out.",
            ),
            id="Arbiter's own keys are left out",
        ),
        pytest.param(
            pod_manifest(annotations=INLINE | {"prioritty": "High"}),
            ("arbiter.infernum.io/prioritty means nothing to Arbiter. Nearest name: arbiter.infernum.io/priority.",),
            id="a misspelt key is named",
        ),
        pytest.param(
            pod_manifest(annotations=INLINE, priorityClassName="gold"),
            (
                'spec.priorityClassName "gold" was replaced by "arbiter-high", '
                "as arbiter.infernum.io/priority or its GpuAllocation says.",
            ),
            id="somebody else's priority class is replaced",
        ),
    ],
)
def test_what_is_changed_silently_elsewhere_is_said_here(manifest: dict[str, Any], warnings: tuple[str, ...]) -> None:
    assert admit(manifest).warnings == warnings


def test_a_pod_that_asks_for_nothing_only_loses_arbiters_keys() -> None:
    forged = pod_manifest(annotations={"gpus": "GPU-0", "demand": "{}", "example.com/a": "b"})
    assert admitted(forged) == pod_manifest(annotations={"example.com/a": "b"})


def test_every_key_of_arbiters_own_is_left_out() -> None:
    forged = pod_manifest(annotations=dict.fromkeys(a.ARBITER_KEYS, "forged"))
    assert admit(forged).left_out == a.ARBITER_KEYS


REFUSED = {
    "a floor above full": (
        pod_manifest(annotations=INLINE | {"vram-floor": "12Gi"}),
        "floor 12Gi is larger than full 10Gi; "
        "lower arbiter.infernum.io/vram-floor or raise arbiter.infernum.io/vram-full.",
    ),
    "a size that is none": (
        pod_manifest(annotations=INLINE | {"vram-full": "ten"}),
        'arbiter.infernum.io/vram-full: "ten" is no size; write a number with a unit, such as 10Gi or 1843Mi.',
    ),
    "an unknown type": (
        pod_manifest(annotations={"workload-type": "Llm"}),
        'arbiter.infernum.io/workload-type "Llm" is unknown; '
        "write one of LlmInference, ImageGeneration, VideoGeneration.",
    ),
    "inline annotations without a type": (
        pod_manifest(annotations={"vram-full": "10Gi"}),
        "arbiter.infernum.io/workload-type is missing; write one of LlmInference, ImageGeneration, VideoGeneration.",
    ),
    "an allocation and inline annotations": (
        pod_manifest(annotations=INLINE | {"allocation": "chat"}),
        "arbiter.infernum.io/allocation and arbiter.infernum.io/workload-type exclude each other; "
        "leave one of them out.",
    ),
    "a container annotation alone": (
        pod_manifest(annotations={"container": "main"}),
        "arbiter.infernum.io/container alone asks for nothing; "
        "write arbiter.infernum.io/workload-type or arbiter.infernum.io/allocation beside it.",
    ),
    "several containers and none named": (
        pod_manifest(annotations=INLINE, containers=TWO),
        'containers "engine", "web": write in arbiter.infernum.io/container which one of them gets GPU memory.',
    ),
    "a named container that does not exist": (
        pod_manifest(annotations=INLINE | {"container": "x"}, containers=TWO),
        'arbiter.infernum.io/container "x" is no container of the pod; write one of "engine", "web".',
    ),
    "a named init container": (
        pod_manifest(annotations=INLINE | {"container": "setup"}, initContainers=[{"name": "setup"}]),
        'arbiter.infernum.io/container "setup" is an init container; name one of spec.containers instead.',
    ),
    "a named sidecar": (
        pod_manifest(
            annotations=INLINE | {"container": "proxy"}, initContainers=[{"name": "proxy", "restartPolicy": "Always"}]
        ),
        'arbiter.infernum.io/container "proxy" is a sidecar; name one of spec.containers instead.',
    ),
    "an init container that asks for the resource": (
        pod_manifest(initContainers=[{"name": "setup", "resources": {"limits": {"arbiter.infernum.io/vram": "1"}}}]),
        'init container "setup" asks for arbiter.infernum.io/vram; move it to an ordinary container.',
    ),
    "two containers that ask for the resource": (
        pod_manifest(
            containers=[
                {"name": name, "resources": {"limits": {"arbiter.infernum.io/vram": "1"}}} for name in ("a", "b")
            ]
        ),
        'containers "a", "b" ask for arbiter.infernum.io/vram; only one container of a pod may hold GPU memory.',
    ),
    "another container named than asks": (
        pod_manifest(
            annotations=INLINE | {"container": "web"},
            containers=[{"name": "engine", "resources": {"limits": {"arbiter.infernum.io/vram": "4"}}}, TWO[1]],
        ),
        'arbiter.infernum.io/container is "web", but container "engine" asks for arbiter.infernum.io/vram; '
        "name the same one.",
    ),
    "bytes where units are counted": (
        pod_manifest(vram="10Gi"),
        'container "main" asks for arbiter.infernum.io/vram "10Gi", which counts units of 1Gi; '
        'write a whole number such as "10".',
    ),
    "half a unit": (
        pod_manifest(vram="500m"),
        'container "main" asks for arbiter.infernum.io/vram "500m", which counts units of 1Gi; '
        'write a whole number such as "10".',
    ),
    "a template that contradicts the floor": (
        pod_manifest(annotations=INLINE, vram="5"),
        'arbiter.infernum.io/vram "5" contradicts arbiter.infernum.io/vram-floor 4Gi, which is "4"; '
        "leave one of the two out.",
    ),
    "a template that no number of GPUs can share": (
        pod_manifest(annotations={"workload-type": "LlmInference", "gpu-count": "2"}, vram="5"),
        'arbiter.infernum.io/vram "5" cannot be divided by 2 GPUs; write a multiple of 2.',
    ),
    "a template for no GPU at all": (
        pod_manifest(annotations={"workload-type": "LlmInference", "gpu-count": "0"}, vram="5"),
        "arbiter.infernum.io/gpu-count must be 1 to 16, it is 0.",
    ),
    "a template above the full size": (
        pod_manifest(annotations={"workload-type": "ImageGeneration"}, vram="8"),
        "floor 8Gi is larger than full 6Gi; "
        "lower the container's arbiter.infernum.io/vram or raise arbiter.infernum.io/vram-full.",
    ),
    "a foreign scheduler": (
        pod_manifest(annotations=INLINE, schedulerName="volcano"),
        'spec.schedulerName "volcano" cannot place GPU memory; leave it out, arbiter-scheduler does.',
    ),
    "a node chosen beforehand": (
        pod_manifest(annotations=INLINE, nodeName="gpu-1"),
        'spec.nodeName "gpu-1" would bypass arbiter-scheduler; leave it out and write a nodeSelector.',
    ),
} | {
    f"{variable} in the environment": (
        pod_manifest(annotations=INLINE, containers=[{"name": "main", "env": [{"name": variable, "value": "all"}]}]),
        f'container "main" sets {variable}, which Arbiter sets on the node; leave it out.',
    )
    for variable in ("NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "ARBITER_DIR")
}


@pytest.mark.parametrize(("manifest", "sentence"), REFUSED.values(), ids=REFUSED)
def test_refused_with_a_sentence(manifest: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        admit(manifest)
    assert str(refusal.value) == f"pod team-a/chat: {sentence}"


def test_an_allocation_that_does_not_exist_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(RefusedError) as refusal:
        admit(pod_manifest(annotations={"allocation": "caht"}), found=False, others=("posters", "chat"))
    assert (
        str(refusal.value)
        == 'pod team-a/chat: no GpuAllocation "caht" in namespace team-a; apply it first. Nearest name: "chat".'
    )


def test_without_anything_near_no_name_is_guessed() -> None:
    with pytest.raises(RefusedError) as refusal:
        admit(pod_manifest(annotations={"allocation": "chat"}), found=False, others=("posters",))
    assert str(refusal.value) == 'pod team-a/chat: no GpuAllocation "chat" in namespace team-a; apply it first.'


def test_an_allocation_that_contradicts_itself_is_refused_in_its_own_words() -> None:
    with pytest.raises(RefusedError) as refusal:
        admit(pod_manifest(annotations={"allocation": "chat"}), quality={"minimum": 0.1})
    assert (
        str(refusal.value) == 'pod team-a/chat: GpuAllocation "chat": spec.quality.minimum 0.100 is below 0.400, '
        "the least quality of LlmInference; raise it or leave it out."
    )


def test_a_template_that_contradicts_its_allocation_is_refused() -> None:
    with pytest.raises(RefusedError) as refusal:
        admit(pod_manifest(annotations={"allocation": "chat"}, vram="5"))
    assert (
        str(refusal.value) == 'pod team-a/chat: arbiter.infernum.io/vram "5" contradicts GpuAllocation "chat": '
        'spec.vram.floor 4Gi, which is "4"; leave one of the two out.'
    )


def test_a_pod_of_a_replica_set_is_called_by_what_its_name_will_begin_with() -> None:
    manifest = pod_manifest(name="", annotations={"allocation": "caht"})
    manifest["metadata"]["generateName"] = "chat-7d9f-"
    with pytest.raises(RefusedError, match=r"^pod team-a/chat-7d9f-\*: no GpuAllocation"):
        admit(manifest, found=False)
