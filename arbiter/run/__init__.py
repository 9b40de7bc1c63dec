"""`arbiter-run`: starts an engine that knows nothing of Arbiter with the flags that its target means.

It runs inside other people's images, as one file that the node's agent builds of this package and the client. So it
imports the standard library and `arbiter.client` only, and runs on Python 3.8.

=============  ====================================================================
`options`      the command line, refused with a sentence where it cannot work
`tables`       what is known of vLLM, ComfyUI and diffusers scripts
`command`      pure: a target as an engine's arguments and environment
`lifecycle`    pure: when to start, drain, kill and start again
`readiness`    I/O: whether an engine is up
`engine`       I/O: one engine with all its processes
`supervisor`   I/O: carries `lifecycle` out, between signals, targets and the engine
`main`         puts the parts together
=============  ====================================================================
"""
