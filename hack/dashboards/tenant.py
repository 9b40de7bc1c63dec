"""The view of a namespace, for who lives in it."""

from hack.dashboards.model import POD, Dashboard, Panel, Query, Row, Unit, Variable, stat

TENANT = Dashboard(
    uid="arbiter-tenant",
    title="Arbiter / Tenant",
    about="What the pods of a namespace asked for, what they have, and what they wait for.",
    variables=(Variable("namespace", "Namespace", "arbiter_quality_minimum"),),
    rows=(
        Row(
            "Now",
            (
                stat(
                    1,
                    "Pods with memory",
                    "Pods that have a place on a GPU.",
                    Query('count(arbiter_quality_minimum{namespace=~"$namespace"}) or vector(0)'),
                ),
                stat(
                    2,
                    "Pods without a node",
                    "Why: kubectl describe pod, or arbiter explain pod/NAME.",
                    Query('count(arbiter_pod_waiting_since_timestamp_seconds{namespace=~"$namespace"}) or vector(0)'),
                ),
                stat(
                    3,
                    "Lowest quality",
                    "Of all targets.",
                    Query('min(arbiter_quality_target{namespace=~"$namespace"})'),
                    unit=Unit.QUALITY,
                    empty="no pod",
                ),
                stat(
                    4,
                    "Mean quality of a day",
                    "Of all pods that ran in it.",
                    Query('avg(avg_over_time(arbiter_quality_target{namespace=~"$namespace"}[1d]))'),
                    unit=Unit.QUALITY,
                    empty="no pod",
                ),
                stat(
                    5,
                    "Promised",
                    "Sum of the floors: what nobody can take away.",
                    Query('sum(arbiter_pod_vram_bytes{namespace=~"$namespace", state="floor"})'),
                    unit=Unit.BYTES,
                    empty="no pod",
                ),
                stat(
                    6,
                    "Granted",
                    "Of what full quality would take.",
                    Query(
                        'sum(arbiter_pod_vram_bytes{namespace=~"$namespace", state="granted"})'
                        ' / sum(arbiter_pod_vram_bytes{namespace=~"$namespace", state="full"})',
                    ),
                    unit=Unit.SHARE,
                    empty="no pod",
                ),
            ),
        ),
        Row(
            "Quality",
            (
                Panel(
                    id=10,
                    title="Quality",
                    about="What was decided for each pod. It never falls below the pod's minimum.",
                    queries=(Query('arbiter_quality_target{namespace=~"$namespace"}', POD),),
                    unit=Unit.QUALITY,
                    most=1,
                    empty="no pod",
                ),
                Panel(
                    id=11,
                    title="Above the minimum",
                    about="How far each pod is above the quality that it was promised.",
                    queries=(
                        Query(
                            'arbiter_quality_target{namespace=~"$namespace"}'
                            ' - arbiter_quality_minimum{namespace=~"$namespace"}',
                            POD,
                        ),
                    ),
                    unit=Unit.QUALITY,
                    most=1,
                    empty="no pod",
                ),
                Panel(
                    id=12,
                    title="Not yet applied",
                    about="Between what was decided and what the engine has confirmed: above 0 it has more to take.",
                    queries=(
                        Query(
                            'arbiter_quality_target{namespace=~"$namespace"}'
                            ' - arbiter_quality_applied{namespace=~"$namespace"}',
                            POD,
                        ),
                    ),
                    unit=Unit.QUALITY,
                    least=-1,
                    most=1,
                    empty="no engine confirms",
                ),
                Panel(
                    id=13,
                    title="Without a node for",
                    about="Each pod that has none.",
                    queries=(
                        Query(
                            'time() - arbiter_pod_waiting_since_timestamp_seconds{namespace=~"$namespace"}',
                            POD,
                        ),
                    ),
                    unit=Unit.SECONDS,
                    empty="nobody waits",
                ),
            ),
        ),
        Row(
            "Memory",
            (
                Panel(
                    id=20,
                    title="Memory",
                    about="What full quality takes; floor is promised, granted is theirs now, used is measured.",
                    queries=(
                        Query(
                            'sum by (state) (arbiter_pod_vram_bytes{namespace=~"$namespace", state!="held"})',
                            "{{state}}",
                        ),
                    ),
                    unit=Unit.BYTES,
                    empty="no pod",
                ),
                Panel(
                    id=21,
                    title="Granted, by pod",
                    about="What each container was told that it may use.",
                    queries=(
                        Query(
                            "sum by (namespace, pod) "
                            '(arbiter_pod_vram_bytes{namespace=~"$namespace", state="granted"})',
                            POD,
                        ),
                    ),
                    unit=Unit.BYTES,
                    stacked=True,
                    empty="no pod",
                ),
                Panel(
                    id=22,
                    title="Used, by pod",
                    about="What the driver measures; only where it can tell.",
                    queries=(
                        Query(
                            'sum by (namespace, pod) (arbiter_pod_vram_bytes{namespace=~"$namespace", state="used"})',
                            POD,
                        ),
                    ),
                    unit=Unit.BYTES,
                    stacked=True,
                    empty="the driver does not tell",
                ),
                Panel(
                    id=23,
                    title="State",
                    about="Containers by where they stand: Movable follow their targets, Held keep what they have.",
                    queries=(
                        Query(
                            'count by (state) (arbiter_grant_state{namespace=~"$namespace"})',
                            "{{state}}",
                        ),
                    ),
                    stacked=True,
                    empty="no pod",
                ),
            ),
        ),
    ),
)
