"""The view of the cluster, for who runs it."""

from hack.dashboards.model import MEMORY_STATES, Dashboard, Kind, Panel, Query, Row, Unit, stat

_RATE = "$__rate_interval"
_PROCESS = "on (instance, job) group_left (component) arbiter_build_info"
"""What tells processes' own metrics apart."""

CLUSTER = Dashboard(
    uid="arbiter-cluster",
    title="Arbiter / Cluster",
    about="How full the GPUs are, what quality that leaves, who waits, and whether Arbiter itself is well.",
    rows=(
        Row(
            "Now",
            (
                stat(1, "GPUs", "GPUs that agents report.", Query("count(arbiter_gpu_healthy)")),
                stat(
                    2,
                    "Usable",
                    "Memory that containers may have.",
                    Query('sum(arbiter_gpu_vram_bytes{state="usable"})'),
                    unit=Unit.BYTES,
                ),
                stat(
                    3,
                    "Promised",
                    "Share that floors take: what can never be lent to others.",
                    Query(
                        'sum(arbiter_gpu_vram_bytes{state="floors"}) / sum(arbiter_gpu_vram_bytes{state="usable"})',
                    ),
                    unit=Unit.SHARE,
                ),
                stat(
                    4,
                    "Granted",
                    "Share that containers were told they may use.",
                    Query(
                        'sum(arbiter_gpu_vram_bytes{state="granted"}) / sum(arbiter_gpu_vram_bytes{state="usable"})',
                    ),
                    unit=Unit.SHARE,
                ),
                stat(
                    5,
                    "Mean quality",
                    "Of all pods' targets.",
                    Query("avg(arbiter_quality_target)"),
                    unit=Unit.QUALITY,
                    empty="no pod",
                ),
                stat(
                    6,
                    "Pods without a node",
                    "They wait for room, or kube-scheduler has not looked at them.",
                    Query("count(arbiter_pod_waiting_since_timestamp_seconds) or vector(0)"),
                ),
            ),
        ),
        Row(
            "Memory and quality",
            (
                Panel(
                    id=10,
                    title="Memory of all GPUs",
                    about=MEMORY_STATES,
                    queries=(Query("sum by (state) (arbiter_gpu_vram_bytes)", "{{state}}"),),
                    unit=Unit.BYTES,
                ),
                Panel(
                    id=11,
                    title="Quality",
                    about="Targets of all pods: the lowest, the lowest tenth, the mean.",
                    queries=(
                        Query("min(arbiter_quality_target)", "lowest"),
                        Query("quantile(0.1, arbiter_quality_target)", "lowest tenth"),
                        Query("avg(arbiter_quality_target)", "mean"),
                    ),
                    unit=Unit.QUALITY,
                    most=1,
                    empty="no pod",
                ),
                Panel(
                    id=12,
                    title="Price of GPUs",
                    about="-1: everybody has full quality. Above 0 some have less, above 1 memory is scarce.",
                    queries=(
                        Query("max(arbiter_gpu_price)", "dearest"),
                        Query("quantile(0.5, arbiter_gpu_price)", "median"),
                        Query("min(arbiter_gpu_price)", "cheapest"),
                    ),
                    unit=Unit.QUALITY,
                    least=-1,
                ),
                Panel(
                    id=13,
                    title="GpuAllocations by phase",
                    about="Reduced is the normal state of a shared GPU; Waiting and Preempted have no memory.",
                    queries=(Query("sum by (phase) (arbiter_allocations)", "{{phase}}"),),
                    stacked=True,
                ),
            ),
        ),
        Row(
            "Change",
            (
                Panel(
                    id=20,
                    title="Changes of quality",
                    about="Targets written per second. Each has a cause: an arrival, a departure, an edit.",
                    queries=(
                        Query(f"sum by (direction) (rate(arbiter_quality_changes_total[{_RATE}]))", "{{direction}}"),
                    ),
                    unit=Unit.PER_SECOND,
                    width=8,
                ),
                Panel(
                    id=21,
                    title="Evictions",
                    about="Preempted for a more important pod, or because their GPU could not keep them.",
                    queries=(
                        Query(f"sum(increase(arbiter_preemptions_total[{_RATE}]))", "preempted"),
                        Query(f"sum by (reason) (increase(arbiter_evictions_total[{_RATE}]))", "{{reason}}"),
                    ),
                    width=8,
                ),
                Panel(
                    id=22,
                    title="Longest without a node",
                    about="Age of the oldest pod that has no node.",
                    queries=(Query("time() - min(arbiter_pod_waiting_since_timestamp_seconds)", "oldest"),),
                    unit=Unit.SECONDS,
                    width=8,
                    empty="nobody waits",
                ),
            ),
        ),
        Row(
            "Placement",
            (
                Panel(
                    id=30,
                    title="Answers to kube-scheduler, slowest hundredth",
                    about="kube-scheduler waits for each: it places one pod at a time.",
                    queries=(
                        Query(
                            "histogram_quantile(0.99, sum by (le, verb) "
                            f"(rate(arbiter_extender_request_seconds_bucket[{_RATE}])))",
                            "{{verb}}",
                        ),
                    ),
                    unit=Unit.SECONDS,
                    width=8,
                    empty="no pod was placed",
                ),
                Panel(
                    id=31,
                    title="Questions of kube-scheduler",
                    about="Per second, by verb.",
                    queries=(
                        Query(f"sum by (verb) (rate(arbiter_extender_request_seconds_count[{_RATE}]))", "{{verb}}"),
                    ),
                    unit=Unit.PER_SECOND,
                    width=8,
                ),
                Panel(
                    id=32,
                    title="Pods that found no node",
                    about="Filter calls that left none, by the reason of most nodes.",
                    queries=(
                        Query(f"sum by (reason) (increase(arbiter_extender_reject_total[{_RATE}]))", "{{reason}}"),
                    ),
                    width=8,
                ),
            ),
        ),
        Row(
            "Arbiter itself",
            (
                stat(40, "Leaders", "Exactly one operator writes.", Query("sum(arbiter_operator_leading)")),
                stat(
                    41,
                    "Nodes that offer",
                    "Nodes whose kubelet offers memory of GPUs, of those that have some.",
                    Query("count(arbiter_node_allocatable_bytes > 0) or vector(0)", "offer"),
                    Query("count(arbiter_node_allocatable_bytes)", "have GPUs"),
                ),
                stat(
                    42,
                    "GPUs not healthy",
                    "Not offered to containers.",
                    Query("count(arbiter_gpu_healthy == 0) or vector(0)"),
                ),
                stat(
                    43,
                    "Ledger drift",
                    "Pods in the last day whose containers use other GPUs than they were bound with.",
                    Query("max(increase(arbiter_ledger_drift_total[1d]))"),
                ),
                Panel(
                    id=44,
                    title="Versions",
                    about="Processes by version; more than one only during an upgrade.",
                    queries=(Query("count by (component, version) (arbiter_build_info)", "{{component}} {{version}}"),),
                    kind=Kind.STAT,
                    width=8,
                    height=4,
                ),
                Panel(
                    id=45,
                    title="Processor",
                    about="Cores in use, by component.",
                    queries=(
                        Query(
                            f"sum by (component) (rate(process_cpu_seconds_total[{_RATE}]) * {_PROCESS})",
                            "{{component}}",
                        ),
                    ),
                ),
                Panel(
                    id=46,
                    title="Memory of processes",
                    about="Resident bytes, by component.",
                    queries=(
                        Query(f"sum by (component) (process_resident_memory_bytes * {_PROCESS})", "{{component}}"),
                    ),
                    unit=Unit.BYTES,
                ),
            ),
        ),
    ),
)
