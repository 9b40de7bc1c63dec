"""NVIDIA GPUs by NVML, through `pynvml` (package nvidia-ml-py).

==========  =====================================================================
`device`    I/O: what one GPU says, in calls that block
`events`    I/O: what the driver reports by itself
`health`    pure: what reports and answers mean for a GPU's health
`picture`   pure: one reading out of what every GPU answered
`backend`   runs the calls in threads with time limits, and starts the library anew
==========  =====================================================================
"""

from arbiter_deviceplugin.backends.nvml.backend import NvmlBackend

__all__ = ["NvmlBackend"]
