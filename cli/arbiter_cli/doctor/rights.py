"""What each of Arbiter's service accounts must be allowed. A test keeps the chart in step."""

from dataclasses import dataclass

from arbiter_kube.api import GROUP

_COORDINATION = "coordination.k8s.io"


@dataclass(frozen=True, slots=True)
class Right:
    """Verbs on one resource, `deployments/status` for a subresource; of one object where it is named.

    Without `everywhere` it counts in Arbiter's own namespace alone.
    """

    account: str
    group: str
    resource: str
    verbs: tuple[str, ...]
    name: str = ""
    everywhere: bool = True


_OPERATOR, _AGENT, _SCHEDULER = "arbiter-operator", "arbiter-device-plugin", "arbiter-scheduler"

RIGHTS = (
    Right(_OPERATOR, GROUP, "gpuallocations", ("get", "list", "watch")),
    Right(_OPERATOR, GROUP, "qualitypolicies", ("list", "watch")),
    Right(_OPERATOR, GROUP, "gpunodes", ("list", "watch")),
    Right(_OPERATOR, GROUP, "gpuallocations/status", ("patch",)),
    Right(_OPERATOR, GROUP, "qualitypolicies/status", ("patch",)),
    Right(_OPERATOR, "", "pods", ("list", "watch", "patch")),
    Right(_OPERATOR, "", "pods/eviction", ("create",)),
    Right(_OPERATOR, "", "nodes", ("list", "watch")),
    Right(_OPERATOR, "", "events", ("create", "patch")),
    Right(_OPERATOR, _COORDINATION, "leases", ("create",), everywhere=False),
    Right(_OPERATOR, _COORDINATION, "leases", ("get", "patch"), name=_OPERATOR, everywhere=False),
    Right(_AGENT, "", "pods", ("get", "list", "watch")),
    Right(_AGENT, "", "nodes", ("get", "list", "watch")),
    Right(_AGENT, "", "events", ("create", "patch")),
    Right(_AGENT, GROUP, "qualitypolicies", ("list", "watch")),
    Right(_AGENT, GROUP, "gpunodes", ("get", "create")),
    Right(_AGENT, GROUP, "gpunodes/status", ("patch",)),
    Right(_SCHEDULER, GROUP, "gpunodes", ("list", "watch")),
    Right(_SCHEDULER, GROUP, "qualitypolicies", ("list", "watch")),
    Right(_SCHEDULER, "", "pods", ("get", "list", "watch")),
    Right(_SCHEDULER, "", "nodes", ("list", "watch")),
    Right(_SCHEDULER, "", "pods/binding", ("create",)),
)
"""Of the scheduler's, the last three come with Kubernetes' own role system:kube-scheduler."""
