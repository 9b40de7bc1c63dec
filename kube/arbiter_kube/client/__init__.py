"""The typed way to the API server that all of Arbiter's processes share.

client.py has the verbs, reflector.py live copies of objects, events.py a recorder of Kubernetes events; health.py and
process.py are what every process serves and starts with. Above the API models, below the three processes.
"""

from arbiter_kube.client.client import KubeClient, PatchType, ServerVersion
from arbiter_kube.client.credentials import CredentialsError
from arbiter_kube.client.errors import (
    ApiError,
    Conflict,
    EvictionRefused,
    Forbidden,
    Gone,
    Invalid,
    KubeError,
    NotFound,
    NotLeadingError,
    TooManyRequests,
    Unreachable,
    UnreadableError,
)
from arbiter_kube.client.events import EventRecorder, EventType, Notice, reference
from arbiter_kube.client.reflector import Reflector, ReflectorEvent, ReflectorTiming
from arbiter_kube.client.store import Applied, Deleted, Synced

__all__ = [
    "ApiError",
    "Applied",
    "Conflict",
    "CredentialsError",
    "Deleted",
    "EventRecorder",
    "EventType",
    "EvictionRefused",
    "Forbidden",
    "Gone",
    "Invalid",
    "KubeClient",
    "KubeError",
    "NotFound",
    "NotLeadingError",
    "Notice",
    "PatchType",
    "Reflector",
    "ReflectorEvent",
    "ReflectorTiming",
    "ServerVersion",
    "Synced",
    "TooManyRequests",
    "Unreachable",
    "UnreadableError",
    "reference",
]
