"""The agent's metrics; the names are part of Arbiter's API."""

from prometheus_client import Counter, Gauge, Histogram

REGISTRATIONS = Counter("arbiter_registration", "Registrations with the kubelet.", ["result"])
STARTS_HELD = Histogram(
    "arbiter_start_held_seconds",
    "How long starts of containers waited for their floor.",
    ["result"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 25),
)
SHRINKS_OVERDUE = Counter("arbiter_shrink_overdue", "Shrinks that were not confirmed within their grace.")
VRAM = Gauge("arbiter_gpu_vram_bytes", "Memory of a GPU.", ["node", "gpu", "state"])
