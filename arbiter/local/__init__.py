"""One GPU shared inside one process: the library's `Arbiter`.

The rules are the cluster's: `arbiter.equilibrium` decides targets, `arbiter.preemption` who has to leave, and
`arbiter.transitions` carries targets out. Here is what an application needs around them. Imports the core and the
standard library only.

=============  =======================================================================================
`errors`       what a request may be refused with
`config`       budget, least qualities, policy, times
`request`      one request, what it demands, how it ended
`claim`        a request from its arrival until its release, as the allocator keeps it
`allocator`    the state machine: claims in, notices out, the clock a parameter; no threads, no I/O
`statistics`   what an Arbiter says about itself; averages weighted by time
`pulse`        wakes threads and tasks that wait for the same thing
`worker`       the one thread: deadlines that nobody waits for, and callbacks
`allocation`   what a holder has in hand
`arbiter`      the shell: one lock, waiting, threads and tasks
=============  =======================================================================================
"""
