"""What kube-scheduler asks of a node before it asks the extender: whether a pod may run there, and has the CPU.

The operator judges by it where no scheduler asks: which pods to wake, and where an eviction would not be in vain.
Inter-pod affinity, topology spreading, volumes and host ports are left to kube-scheduler: a pod that they keep away is
woken in vain now and then, and may have others evicted in vain.
"""

from dataclasses import dataclass
from fractions import Fraction

from arbiter.units import QuantityError, parse_quantity
from arbiter_kube.api.objects import Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration

_KEEPS_OUT = ("NoSchedule", "NoExecute")


def admits(node: Node, pod: Pod) -> bool:
    """Whether the node is ready, takes new pods, and the pod's selectors and tolerations allow it."""
    if not node.is_ready or (node.spec.unschedulable and not _tolerates(pod, _CORDONED)):
        return False
    if any(node.metadata.labels.get(key) != value for key, value in pod.spec.node_selector.items()):
        return False
    taints = (taint for taint in node.spec.taints if taint.effect in _KEEPS_OUT)
    return all(_tolerates(pod, taint) for taint in taints) and _is_attractive(node, pod)


_CORDONED = Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")


def _tolerates(pod: Pod, taint: Taint) -> bool:
    return any(_matches(toleration, taint) for toleration in pod.spec.tolerations)


def _matches(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect not in ("", taint.effect) or toleration.key not in ("", taint.key):
        return False
    return toleration.operator == "Exists" or (bool(toleration.key) and toleration.value == taint.value)


def _is_attractive(node: Node, pod: Pod) -> bool:
    """Required node affinity: any of its terms, all of a term's requirements; a term without any matches nothing."""
    affinity = pod.spec.affinity.node_affinity if pod.spec.affinity is not None else None
    required = affinity.required if affinity is not None else None
    return required is None or any(_term_matches(term, node) for term in required.node_selector_terms)


def _term_matches(term: NodeSelectorTerm, node: Node) -> bool:
    names = {"metadata.name": node.metadata.name}
    wanted = [(rule, node.metadata.labels) for rule in term.match_expressions]
    wanted += [(rule, names) for rule in term.match_fields]
    return bool(wanted) and all(_meets(values.get(rule.key), rule) for rule, values in wanted)


def _meets(value: str | None, rule: NodeSelectorRequirement) -> bool:
    match rule.operator:
        case "In":
            return value in rule.values
        case "NotIn":
            return value not in rule.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" if value is not None and len(rule.values) == 1:
            return _compare(value, rule.values[0], greater=rule.operator == "Gt")
        case _:
            return False


def _compare(value: str, bound: str, *, greater: bool) -> bool:
    try:
        return int(value) > int(bound) if greater else int(value) < int(bound)
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Requests:
    """CPU in thousandths of a core and memory in bytes."""

    cpu: int = 0
    memory: int = 0

    def __add__(self, other: "Requests") -> "Requests":
        return Requests(self.cpu + other.cpu, self.memory + other.memory)

    def __sub__(self, other: "Requests") -> "Requests":
        return Requests(self.cpu - other.cpu, self.memory - other.memory)

    def most(self, other: "Requests") -> "Requests":
        """The larger of each."""
        return Requests(max(self.cpu, other.cpu), max(self.memory, other.memory))

    def within(self, other: "Requests") -> bool:
        """Whether there is as much of each in `other`."""
        return self.cpu <= other.cpu and self.memory <= other.memory


def requests(pod: Pod) -> Requests:
    """What kube-scheduler counts for a pod: containers and sidecars, or an init container that needs more."""
    sidecars, starting = Requests(), Requests()
    for container in pod.spec.init_containers:
        wanted = _quantities(container.resources.requests)
        if container.restart_policy == "Always":
            sidecars += wanted
        else:
            starting = starting.most(sidecars + wanted)
    running = sum((_quantities(container.resources.requests) for container in pod.spec.containers), sidecars)
    return running.most(starting) + _quantities(pod.spec.overhead)


def allocatable(node: Node) -> Requests:
    """What the node has for pods."""
    return _quantities(node.status.allocatable)


def _quantities(resources: dict[str, str]) -> Requests:
    return Requests(int(_number(resources.get("cpu", "0")) * 1000), int(_number(resources.get("memory", "0"))))


def _number(text: str) -> Fraction:
    try:
        return parse_quantity(text)
    except QuantityError:  # the API server takes numbers that no machine has
        return Fraction(0)
