"""The operator: admission of pods, quality targets, status and events.

`admission/` decides on pods that are created. `cluster.py` is the state, `targets.py`, `reasons.py`, `status.py`,
`demands.py` and `waiting.py` decide (pure), `engine.py` and `main.py` carry out. Below the CLI, beside the other
processes, above the Kubernetes client.
"""
