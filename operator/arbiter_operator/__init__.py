"""The operator: admission of pods, quality targets, status and events. Beside the other processes, above the client.

State     `cluster` is fed events; `node` is one node as decisions see it; `history` remembers for sentences alone.
Decision  `targets` (with `reasons`), `demands`, `waiting` (with `places`), `status` (with `view` and `conditions`),
          `notices`; pure.
          `admission/` decides on pods that are created.
I/O       `engine` is the one reconcile loop, with `work`, `agenda` and `writer`; `feed` and `framework` (kopf) wake
          it; `main` wires them together.
"""
