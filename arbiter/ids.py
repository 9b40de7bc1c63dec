"""Names of the things that Arbiter keeps apart, so that a type checker does too."""

from typing import NewType

PodUid = NewType("PodUid", str)
GpuUuid = NewType("GpuUuid", str)
NodeName = NewType("NodeName", str)
OwnerUid = NewType("OwnerUid", str)
