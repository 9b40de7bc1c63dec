"""One GPU shared inside one process: the library's `Arbiter`.

The rules are the cluster's: `arbiter.equilibrium` decides targets, `arbiter.preemption` who has to leave, and
`arbiter.transitions` carries targets out. Here is what an application needs around them. Imports the core and the
standard library only.

=============  =======================================================================================
`errors`       what a request may be refused with
`config`       budget, least qualities, policy, times
`request`      one request, what it demands, how it ended
`claim`        a request from its arrival until its release, as the allocator keeps it
`room`         what a claim finds on the GPU, and what it lacks there
`book`         the claims, and what is promised to them
`admission`    who may come in, and who has to leave for it
`allocator`    the state machine: claims in, notices out, the clock a parameter; no threads, no I/O
`statistics`   what an Arbiter says about itself; averages weighted by time
`pulse`        wakes threads and tasks that wait for the same thing
`worker`       the threads: deadlines that nobody waits for, and callbacks
`holding`      what a holder was told and has seen
`allocation`   what a holder has in hand
`arbiter`      the shell: one lock, waiting, threads and tasks
=============  =======================================================================================
"""
