"""What Arbiter's processes asked the API server for, by its own record."""

import json
from collections.abc import Iterator
from typing import Any

from hack.cluster.cluster import Cluster


def audited(cluster: Cluster) -> Iterator[dict[str, Any]]:
    """The audit events of Arbiter's service accounts that are about resources, in order."""
    for line in cluster.control_plane.audit_log.read_text().splitlines():
        event = json.loads(line)
        if "objectRef" in event:
            yield event
