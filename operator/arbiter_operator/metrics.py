"""What the operator counts. Imports prometheus_client only."""

from prometheus_client import Counter

PREEMPTIONS = Counter("arbiter_preemptions", "Pods that were evicted so that a more important one has room.")
