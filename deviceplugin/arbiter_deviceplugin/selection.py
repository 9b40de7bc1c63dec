"""Which of the node's GPUs are Arbiter's, and how much of each: what people set for this node.

Pure. Imports the backends' data types.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from arbiter_deviceplugin.backends import Gpu, Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """GPUs by index or uuid, all of them where none is named, and the share of their usable bytes that is given out."""

    devices: tuple[str, ...] = ()
    budget: Fraction = Fraction(1)

    def of(self, reading: Reading) -> Reading:
        """What is Arbiter's of a reading; what is not is among the sentences of what was left out."""
        ours = tuple(self._budgeted(gpu) for gpu in reading.gpus if self._selects(gpu))
        return replace(reading, gpus=ours, left_out=(*reading.left_out, *self._left_out(reading)))

    def _selects(self, gpu: Gpu) -> bool:
        return not self.devices or not {str(gpu.index), gpu.uuid}.isdisjoint(self.devices)

    def _budgeted(self, gpu: Gpu) -> Gpu:
        """What the budget keeps back counts as reserved, like what the driver keeps back."""
        return replace(gpu, reserved=gpu.total - int(gpu.usable * self.budget))

    def _left_out(self, reading: Reading) -> Iterator[str]:
        for gpu in reading.gpus:
            if not self._selects(gpu):
                yield f"GPU {gpu.index} ({gpu.uuid}) is not among --devices"
        names = {name for gpu in reading.gpus for name in (str(gpu.index), gpu.uuid)}
        for name in self.devices:
            if name not in names:
                yield f"--devices names {name}, which no GPU of this node is called"
