"""The scheduler extender: says which nodes have GPU memory for a pod, keeps it for the pod, and binds it.

==========  =======================================================================================
`promises`  what this process keeps for pods that are not bound yet
`rooms`     state: the index of the room on every node that placement asks
`ledger`    state: what is known of the cluster, fed by events
`decision`  pure: filter, prioritize and bind plans on a ledger
`messages`  what kube-scheduler sends and expects
`service`   the three verbs: decide, promise, carry out
`binder`    I/O: carries a bind out, until the API server has said what became of it
`feed`      I/O: list and watch, into the ledger
`heads`     I/O: so many connections, on which requests begin in time
`server`    I/O: HTTP
`metrics`   what is counted
`main`      flags, start and end
==========  =======================================================================================

Who takes what of a node's GPUs is read in `arbiter_kube.api.occupancy`, as the operator reads it.
"""
