"""How a container is given its GPUs, and what keeps it from the others. Pure; imports the core's identifiers.

NVIDIA's runtime shows the GPUs that an environment variable names, which an image or a pod can set too; so can whoever
has the runtime read it. Mounts below a directory of the host, and names of the Container Device Interface, come from
the kubelet alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from arbiter.ids import GpuUuid

CDI_KIND = "nvidia.com/gpu"
"""Of the specification that NVIDIA's container toolkit writes on the node, with devices by UUID."""

_VISIBLE = "NVIDIA_VISIBLE_DEVICES"
_MOUNTS = "/var/run/nvidia-container-devices"
"""Where NVIDIA's runtime looks for mounts that name GPUs, where it is told to (accept-nvidia-visible-devices-...)."""


class GpuAccess(StrEnum):
    """By what the runtime learns which GPUs a container gets."""

    ENVIRONMENT = "environment"
    VOLUME_MOUNTS = "volume-mounts"
    CDI = "cdi"

    @property
    def isolation(self) -> str:
        """What a node says keeps a container from other GPUs: none where a variable decides."""
        return "none" if self is GpuAccess.ENVIRONMENT else self.value


@dataclass(frozen=True, slots=True)
class Access:
    """What Allocate answers: variables, mounts as (path in the container, path on the host), and CDI names."""

    environment: tuple[tuple[str, str], ...] = ()
    mounts: tuple[tuple[str, str], ...] = ()
    cdi: tuple[str, ...] = ()


def access(how: GpuAccess | None, gpus: Sequence[GpuUuid]) -> Access:
    """The answer for these GPUs; None for GPUs that no runtime shows, such as simulated ones."""
    match how:
        case None:
            return Access()
        case GpuAccess.ENVIRONMENT:
            return Access(environment=((_VISIBLE, ",".join(gpus)),))
        case GpuAccess.VOLUME_MOUNTS:
            mounts = tuple((f"{_MOUNTS}/{gpu}", "/dev/null") for gpu in gpus)
            return Access(environment=((_VISIBLE, _MOUNTS),), mounts=mounts)
        case GpuAccess.CDI:
            # The variable says that the runtime has nothing to add to what the specification does.
            return Access(environment=((_VISIBLE, "void"),), cdi=tuple(f"{CDI_KIND}={gpu}" for gpu in gpus))
