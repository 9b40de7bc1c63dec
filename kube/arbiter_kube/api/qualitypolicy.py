"""QualityPolicy: how the nodes that it selects share quality out."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from arbiter.demand import DemandDefaults
from arbiter.policy import Policy
from arbiter.workload import PolicyMode, WorkloadType
from arbiter_kube.api.durations import parse_duration
from arbiter_kube.api.fields import ApiModel, Conditions, Duration, ObjectMeta, Quality, rule, validations

DEFAULT_POLICY_NAME = "default"

_CLUSTER_WIDE_FIELDS = {
    "minimumQuality": "minimum_quality",
    "allocationTimeout": "allocation_timeout",
    "preemption": "preemption",
}
"""Names outside and here."""


def _misplaced(name: str) -> str:
    return f"spec.{name} is needed before a pod's node is known: write it in a policy without a nodeSelector"


class MinimumQuality(ApiModel):
    """The least quality of each workload type."""

    llm: Quality | None = None
    """Of LlmInference."""
    image: Quality | None = None
    """Of ImageGeneration."""
    video: Quality | None = None
    """Of VideoGeneration."""


class QualityPolicySpec(ApiModel):
    """Fields left out have the defaults of `arbiter.policy.Policy`."""

    mode: Literal["Adaptive", "LlmFirst", "DiffusionFirst", "Balanced", "Fixed"] = "Adaptive"
    """Whom to favour. Fixed: everybody is sized at the start and held."""
    adaptive: bool = True
    """false is mode Fixed."""
    pressure_threshold: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of a GPU that is used before anybody gives way; 1 uses all of it."""
    shrink_grace: Duration = "30s"
    """How long engines may take to give memory back, where their demand does not say."""
    start_window: Duration = "3m"
    """How long at most nothing else moves on a GPU while a container there starts."""
    restore_interval: Duration = "10s"
    """Least mean time between two grows of one container, with two at once."""
    overdue: Literal["Wait", "Evict"] = "Wait"
    """What becomes of a container that keeps or takes others' bytes for longer than its grace, where no floor waits."""
    gpu_lost_after: Duration = "60s"
    """How long a GPU is unhealthy before the pods on it are evicted."""
    node_selector: Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=16)] | None = None
    """Labels of the nodes that it is for. Without it: every node."""
    weight: Annotated[int, Field(ge=0, le=1000)] = 0
    """Which policy wins where several select a node: the greatest, then the first name."""
    minimum_quality: MinimumQuality | None = None
    """Default minimum quality by type. Of the policy default only."""
    allocation_timeout: Duration | None = None
    """Default of a demand's timeout. Of the policy default only."""
    preemption: bool | None = None
    """Whether waiting pods may have others evicted; true by default. Of the policy default only."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            *(rule(f"!has(self.nodeSelector) || !has(self.{name})", _misplaced(name)) for name in _CLUSTER_WIDE_FIELDS)
        )
    )

    def mistake(self) -> str | None:
        """What the API server would refuse it with by its rules, for readers of manifests that no server has seen."""
        given = (name for name, field in _CLUSTER_WIDE_FIELDS.items() if getattr(self, field) is not None)
        return None if self.node_selector is None else next(map(_misplaced, given), None)

    def policy(self) -> Policy:
        """What solver and transition engine need of it."""
        return Policy(
            mode=PolicyMode(self.mode),
            adaptive=self.adaptive,
            pressure_threshold=Fraction(repr(self.pressure_threshold)),
            shrink_grace=parse_duration(self.shrink_grace),
            start_window=parse_duration(self.start_window),
            restore_interval=parse_duration(self.restore_interval),
            evict_overdue=self.overdue == "Evict",
            gpu_lost_after=parse_duration(self.gpu_lost_after),
        )

    def demand_defaults(self) -> DemandDefaults:
        """What it adds to the demands of pods that are created under it."""
        least = self.minimum_quality or MinimumQuality()
        by_type = {
            WorkloadType.LLM_INFERENCE: least.llm,
            WorkloadType.IMAGE_GENERATION: least.image,
            WorkloadType.VIDEO_GENERATION: least.video,
        }
        return DemandDefaults(
            minimum_quality={kind: Fraction(repr(q)) for kind, q in by_type.items() if q is not None},
            shrink_grace=parse_duration(self.shrink_grace),
        )


class QualityPolicyStatus(ApiModel):
    """How many nodes follow it."""

    nodes: int | None = None
    """Nodes with GPUs that it is in force on."""
    observed_generation: int | None = None
    """The generation of the spec that the status is about."""
    conditions: Conditions = Field(default_factory=list)
    """InForce: whether any node follows it, and whom the others that it selects follow."""


class QualityPolicy(ApiModel):
    """The custom resource."""

    metadata: ObjectMeta
    """The object's metadata."""
    spec: QualityPolicySpec = Field(default_factory=QualityPolicySpec)
    """How quality is shared out."""
    status: QualityPolicyStatus = Field(default_factory=QualityPolicyStatus)
    """Where it is in force."""

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether a node with these labels is meant; without a selector every node is."""
        return all(labels.get(key) == value for key, value in (self.spec.node_selector or {}).items())


def policy_in_force(policies: Iterable[QualityPolicy], labels: Mapping[str, str]) -> QualityPolicy | None:
    """The policy of a node with these labels: the greatest weight, then the first name; None if none selects."""
    selecting = [policy for policy in policies if policy.selects(labels)]
    return min(selecting, key=lambda policy: (-policy.spec.weight, policy.metadata.name), default=None)
