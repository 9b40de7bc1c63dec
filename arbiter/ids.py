"""Names of the things that Arbiter keeps apart, so that a type checker does too."""

from typing import NewType

PodUid = NewType("PodUid", str)
GpuUuid = NewType("GpuUuid", str)
NodeName = NewType("NodeName", str)
NodeUid = NewType("NodeUid", str)
OwnerUid = NewType("OwnerUid", str)
