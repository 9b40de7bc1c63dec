"""The dashboards by the names of their files."""

from hack.dashboards.cluster import CLUSTER
from hack.dashboards.node import NODE
from hack.dashboards.tenant import TENANT

DASHBOARDS = {"cluster": CLUSTER, "node": NODE, "tenant": TENANT}
