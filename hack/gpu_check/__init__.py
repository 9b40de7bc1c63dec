"""`make gpu-check`: what a machine with a real NVIDIA GPU shows of Arbiter, told as a block for docs/proven.md.

Runs where there is nothing but Python, pynvml (package nvidia-ml-py) and NVIDIA's driver: imports the core and the
NVML backend only.

===========  ==================================================================================
`report`     what was seen, and how it is told
`contract`   the backend against the driver
`processes`  a view of /proc in which our own processes are containers of pods
`sharing`    two processes with real memory, and the transition engine between them
`sharer`     such a process, from outside
`holder`     such a process, from inside: CUDA's driver API by ctypes
===========  ==================================================================================
"""
