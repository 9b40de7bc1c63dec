"""The view of a node, for who mends it."""

from hack.dashboards.model import MEMORY_STATES, POD, Dashboard, Kind, Panel, Query, Row, Unit, Variable, stat

_RATE = "$__rate_interval"
_AGENT = 'and on (instance, job) arbiter_node_condition{node=~"$node"}'
"""Keeps what the chosen nodes' agents count: counters do not name the node."""

NODE = Dashboard(
    uid="arbiter-node",
    title="Arbiter / Node",
    about="Who has what of a node's GPUs, and how its agent carries targets out.",
    variables=(Variable("node", "Node", "arbiter_gpu_vram_bytes"),),
    rows=(
        Row(
            "Now",
            (
                stat(
                    1,
                    "GPUs healthy",
                    "Offered to containers, of those that there are.",
                    Query('sum(arbiter_gpu_healthy{node=~"$node"})', "healthy"),
                    Query('count(arbiter_gpu_healthy{node=~"$node"})', "there are"),
                ),
                stat(
                    2,
                    "Usable",
                    "Memory that containers may have.",
                    Query('sum(arbiter_gpu_vram_bytes{node=~"$node", state="usable"})'),
                    unit=Unit.BYTES,
                ),
                stat(
                    3,
                    "Offered by the kubelet",
                    "0: no agent is registered with it, or the agent withholds the GPUs.",
                    Query('sum(arbiter_node_allocatable_bytes{node=~"$node"})'),
                    unit=Unit.BYTES,
                ),
                stat(
                    4,
                    "Pods",
                    "Pods with memory here.",
                    Query('count(count by (namespace, pod) (arbiter_grant_state{node=~"$node"})) or vector(0)'),
                ),
                Panel(
                    id=5,
                    title="Conditions",
                    about="Of the GpuNode: Ready should be 1, every other 0.",
                    queries=(Query('sum by (condition) (arbiter_node_condition{node=~"$node"})', "{{condition}}"),),
                    kind=Kind.STAT,
                    width=8,
                    height=4,
                ),
            ),
        ),
        Row(
            "Memory",
            (
                Panel(
                    id=10,
                    title="Memory",
                    about=MEMORY_STATES,
                    queries=(Query('sum by (state) (arbiter_gpu_vram_bytes{node=~"$node"})', "{{state}}"),),
                    unit=Unit.BYTES,
                ),
                Panel(
                    id=11,
                    title="Granted, by pod",
                    about="What each container was told that it may use.",
                    queries=(
                        Query(
                            'sum by (namespace, pod) (arbiter_pod_vram_bytes{node=~"$node", state="granted"})',
                            POD,
                        ),
                    ),
                    unit=Unit.BYTES,
                    stacked=True,
                    empty="no pod",
                ),
                Panel(
                    id=12,
                    title="GPUs in use",
                    about="Measured, of what is usable.",
                    queries=(
                        Query(
                            'arbiter_gpu_vram_bytes{node=~"$node", state="used"}'
                            ' / ignoring (state) arbiter_gpu_vram_bytes{node=~"$node", state="usable"}',
                            "{{node}} {{gpu}}",
                        ),
                    ),
                    unit=Unit.SHARE,
                    most=1,
                    empty="the driver does not tell",
                ),
                Panel(
                    id=13,
                    title="Price",
                    about="-1: everybody has full quality. Above 0 some have less, above 1 memory is scarce.",
                    queries=(Query('arbiter_gpu_price{node=~"$node"}', "{{node}} {{gpu}}"),),
                    unit=Unit.QUALITY,
                    least=-1,
                ),
            ),
        ),
        Row(
            "Pods",
            (
                Panel(
                    id=20,
                    title="Quality",
                    about="Targets of the pods here.",
                    queries=(
                        Query(
                            'arbiter_quality_target and on (namespace, pod) arbiter_pod_vram_bytes{node=~"$node"}',
                            POD,
                        ),
                    ),
                    unit=Unit.QUALITY,
                    most=1,
                    empty="no pod",
                ),
                Panel(
                    id=21,
                    title="Being given back",
                    about="Bytes beyond their target that containers may still hold: others wait for them.",
                    queries=(
                        Query(
                            'sum by (namespace, pod) (arbiter_pod_vram_bytes{node=~"$node", state="held"})'
                            ' - sum by (namespace, pod) (arbiter_pod_vram_bytes{node=~"$node", state="granted"})',
                            POD,
                        ),
                    ),
                    unit=Unit.BYTES,
                    empty="no pod",
                ),
                Panel(
                    id=22,
                    title="Used beyond what they may hold",
                    about="These bytes were promised to others.",
                    queries=(Query('arbiter_measured_above_grant_bytes{node=~"$node"}', POD),),
                    unit=Unit.BYTES,
                    empty="nobody takes more",
                ),
                Panel(
                    id=23,
                    title="Waiting for their floor",
                    about="Containers that may not start yet, since somebody has not given their bytes back.",
                    queries=(Query('arbiter_floor_waiting{node=~"$node"}', POD),),
                    empty="nobody waits",
                ),
            ),
        ),
        Row(
            "The agent",
            (
                Panel(
                    id=30,
                    title="From bound to told",
                    about="From the agent's first sight of a bound pod to the target in its container.",
                    queries=tuple(
                        Query(
                            f"histogram_quantile({share}, sum by (le) "
                            f"(rate(arbiter_grant_latency_seconds_bucket[{_RATE}]) {_AGENT}))",
                            name,
                        )
                        for share, name in ((0.5, "half"), (0.99, "slowest hundredth"))
                    ),
                    unit=Unit.SECONDS,
                    width=8,
                    empty="no pod came",
                ),
                Panel(
                    id=31,
                    title="Starts held, slowest tenth",
                    about="How long containers waited for their floor; refused ones are asked for again.",
                    queries=(
                        Query(
                            "histogram_quantile(0.9, sum by (le, result) "
                            f"(rate(arbiter_start_held_seconds_bucket[{_RATE}]) {_AGENT}))",
                            "{{result}}",
                        ),
                    ),
                    unit=Unit.SECONDS,
                    width=8,
                    empty="no container started",
                ),
                Panel(
                    id=32,
                    title="Trouble",
                    about="Shrinks that were not confirmed within their grace, and registrations with the kubelet.",
                    queries=(
                        Query(f"sum(increase(arbiter_shrink_overdue_total[{_RATE}]) {_AGENT})", "shrinks overdue"),
                        Query(
                            f"sum by (result) (increase(arbiter_registration_total[{_RATE}]) {_AGENT})",
                            "registrations {{result}}",
                        ),
                    ),
                    width=8,
                ),
            ),
        ),
    ),
)
