"""Names and shapes of Arbiter's API: custom resources, annotations, and what is read of Kubernetes' own objects."""

GROUP = "arbiter.infernum.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

VRAM_RESOURCE = f"{GROUP}/vram"
"""The extended resource: a container's floor in whole vram units, times its GPU count."""

SCHEDULER_NAME = "arbiter-scheduler"
SYSTEM_NAMESPACE = "arbiter-system"
