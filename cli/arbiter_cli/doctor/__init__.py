"""`arbiter doctor`: whether an installation is as it should be, and what mends it where it is not.

`reading` asks the API server; what it found is a `facts.Facts`. `installation`, `admission` and `nodes` make checks of
it, pure; `rights` is what Arbiter's service accounts need; `command` prints.
"""
