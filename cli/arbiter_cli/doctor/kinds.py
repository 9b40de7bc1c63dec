"""What the doctor reads of objects that nobody else here does: of each only the fields that a check looks at."""

from typing import Any

import msgspec

from arbiter_kube.api.objects import ObjectMeta, PartialObject
from arbiter_kube.api.resources import Resource


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How these objects and their parts are read."""


class CrdVersion(_Part, frozen=True, kw_only=True):
    """One version of a custom resource, with its whole schema."""

    name: str
    served: bool = False
    schema: dict[str, Any] = {}  # JSON of any depth


class CrdSpec(_Part, frozen=True, kw_only=True):
    """The versions of a custom resource."""

    versions: tuple[CrdVersion, ...] = ()


class Crd(_Part, frozen=True, kw_only=True):
    """CustomResourceDefinition."""

    metadata: ObjectMeta = ObjectMeta()
    spec: CrdSpec = CrdSpec()


class ClientConfig(_Part, frozen=True, kw_only=True):
    """Where a webhook is, and by whose certificate it is known (PEM in base64)."""

    ca_bundle: bytes = b""


class Named(_Part, frozen=True, kw_only=True):
    """A condition of a webhook."""

    name: str = ""


class Webhook(_Part, frozen=True, kw_only=True):
    """One webhook of a configuration."""

    name: str = ""
    client_config: ClientConfig = ClientConfig()
    failure_policy: str = ""
    timeout_seconds: int = 0
    match_conditions: tuple[Named, ...] = ()


class WebhookConfiguration(_Part, frozen=True, kw_only=True):
    """MutatingWebhookConfiguration."""

    metadata: ObjectMeta = ObjectMeta()
    webhooks: tuple[Webhook, ...] = ()


class PriorityClassObject(_Part, frozen=True, kw_only=True):
    """PriorityClass."""

    metadata: ObjectMeta = ObjectMeta()
    value: int = 0
    preemption_policy: str = ""


class Secret(_Part, frozen=True, kw_only=True):
    """Secret; values in base64, as msgspec reads bytes."""

    metadata: ObjectMeta = ObjectMeta()
    data: dict[str, bytes] = {}


class SetSpec(_Part, frozen=True, kw_only=True):
    """How many replicas are wanted."""

    replicas: int = 0


class SetStatus(_Part, frozen=True, kw_only=True):
    """How many of them are ready."""

    ready_replicas: int = 0


class ReplicatedSet(_Part, frozen=True, kw_only=True):
    """A Deployment, as far as it is ready."""

    metadata: ObjectMeta = ObjectMeta()
    spec: SetSpec = SetSpec()
    status: SetStatus = SetStatus()


class ReviewStatus(_Part, frozen=True, kw_only=True):
    """The answer."""

    allowed: bool = False


class AccessReview(_Part, frozen=True, kw_only=True):
    """SubjectAccessReview, answered."""

    status: ReviewStatus = ReviewStatus()


def _cluster_wide(model: type[Any], kind: str, plural: str, group: str) -> Resource[Any]:
    return Resource(model=model, group=group, version="v1", plural=plural, kind=kind, namespaced=False)


_ADMISSION = "admissionregistration.k8s.io"

CRDS: Resource[Crd] = _cluster_wide(
    Crd, "CustomResourceDefinition", "customresourcedefinitions", "apiextensions.k8s.io"
)
WEBHOOKS: Resource[WebhookConfiguration] = _cluster_wide(
    WebhookConfiguration, "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", _ADMISSION
)
POLICIES: Resource[PartialObject] = _cluster_wide(
    PartialObject, "ValidatingAdmissionPolicy", "validatingadmissionpolicies", _ADMISSION
)
BINDINGS: Resource[PartialObject] = _cluster_wide(
    PartialObject, "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", _ADMISSION
)
PRIORITY_CLASSES: Resource[PriorityClassObject] = _cluster_wide(
    PriorityClassObject, "PriorityClass", "priorityclasses", "scheduling.k8s.io"
)
REVIEWS: Resource[AccessReview] = _cluster_wide(
    AccessReview, "SubjectAccessReview", "subjectaccessreviews", "authorization.k8s.io"
)
SECRETS = Resource(model=Secret, version="v1", plural="secrets", kind="Secret", namespaced=True)
SETS = Resource(
    model=ReplicatedSet, group="apps", version="v1", plural="deployments", kind="Deployment", namespaced=True
)
