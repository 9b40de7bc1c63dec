"""The scheduler extender: says which nodes have GPU memory for a pod, keeps it for the pod, and binds it.

============  =====================================================================================
`occupancy`   pure: who takes what of one node's GPUs, and what room that leaves
`ledger`      state: what is known of the cluster, fed by events, and this process's own promises
`decision`    pure: filter, prioritize and bind plans on a ledger
`messages`    what kube-scheduler sends and expects
`binder`      I/O: carries a bind out, until the API server has said what became of it
`feed`        I/O: list and watch, into the ledger
`server`      I/O: HTTP
`metrics`     what is counted
`main`        flags, start and end
============  =====================================================================================
"""
