"""The device plugin and node agent: offers GPU memory to the kubelet and carries targets out on its node.

================  =================================================================================
`slices`          pure: device ids, and which of them to prefer
`matching`        pure: which pod the kubelet speaks of
`allocations`     state: which slices were handed out, with which directory, to whom
`lifetimes`       pure: when a start or a pod is over
`target`          pure: what a container is told
`gpunode`         pure: what the node says of itself
`monitor`         pure: who uses more than it may hold
`conflicts`       pure: whether others offer the same GPUs
`selection`       pure: which GPUs are Arbiter's, and how much of them
`access`          pure: how a container is given its GPUs
`backends`        I/O: where GPUs are read from; `inventory` keeps the last reading
`enforcement`     I/O: limits of running containers, and which rung of the ladder holds
`kubelet`         I/O: what we ask of the kubelet
`registration`    I/O: keeps the plugin known to it
`plugin`          I/O: its five questions, translated; `offer` is the list that it is shown
`admission`       I/O: what its questions mean
`carrier`         I/O: the transition engine's shell
`disk`            I/O: what survives a crash
`clock`           one time for all of them, which never steps back
`directory`       I/O: a container's files and socket; `directories` has those of all
`wrapper`         I/O: `arbiter-run`, the one file that containers may execute
`processes`       I/O: who lives, by /proc
`watch`           I/O: looks at them, and tells the engine what has ended
`pods`            state: the pods of this node
`publisher`       I/O: writes GpuNode
`agent`           puts the parts together; `main` has the flags
================  =================================================================================
"""
