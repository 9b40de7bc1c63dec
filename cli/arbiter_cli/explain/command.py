"""`arbiter explain`: reads a snapshot and what else the question needs, and prints the answer."""

import argparse
import asyncio
import time
from collections.abc import Sequence

from arbiter.ids import NodeName
from arbiter.units import GIB
from arbiter_cli import candidates
from arbiter_cli.access import Access, add_cluster, ask, sentence
from arbiter_cli.arguments import OBJECTS, Output, add_output, completed
from arbiter_cli.errors import InputError
from arbiter_cli.explain.events import happenings, read_events
from arbiter_cli.explain.gpu import GpuExplanation, explain_gpu
from arbiter_cli.explain.maker import Made, explain_maker
from arbiter_cli.explain.names import Kind, Subject, missing, parse_subject
from arbiter_cli.explain.several import Group, explain_allocation, explain_one
from arbiter_cli.explain.text import Answer, as_text
from arbiter_cli.explain.told import ToldExplanation, explain_told
from arbiter_cli.kinds import DAEMON_SETS, DEPLOYMENTS, JOBS, REPLICA_SETS, STATEFUL_SETS, TIMED_PODS, Maker
from arbiter_cli.printing import emit
from arbiter_cli.snapshot import Snapshot, read_snapshot
from arbiter_kube.api import annotations as a
from arbiter_kube.api.objects import ObjectKey
from arbiter_kube.api.pods import gpu_pod
from arbiter_kube.api.resources import Resource
from arbiter_kube.client import Forbidden

_MAKERS: dict[Kind, Resource[Maker]] = {
    Kind.DEPLOYMENT: DEPLOYMENTS,
    Kind.REPLICA_SET: REPLICA_SETS,
    Kind.STATEFUL_SET: STATEFUL_SETS,
    Kind.DAEMON_SET: DAEMON_SETS,
    Kind.JOB: JOBS,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `arbiter explain` takes."""
    parser.epilog = (
        "Kinds: pod, gpuallocation (gpua), deployment (deploy), replicaset, statefulset, daemonset, job, node, and "
        "gpu/NODE/INDEX. Whatever would change an answer is computed by the operator's own solver."
    )
    subject = parser.add_argument(
        "subject", nargs="+", metavar="KIND/NAME", help="what to explain: pod/chat-0, deployment/chat, gpu/gpu-1/0"
    )
    completed(subject, candidates.subjects)
    add_cluster(parser)
    add_output(parser, OBJECTS)


def run(arguments: argparse.Namespace) -> int:
    """Prints the explanation.

    Raises:
        InputError: there is no such object, or the cluster cannot be asked.
    """
    subject = parse_subject(arguments.subject)

    async def explain(access: Access) -> int:
        answers = await _answers(access, subject)
        if arguments.output is Output.TABLE:
            print("\n\n".join(map(as_text, answers)))
        else:
            emit(answers if subject.kind is Kind.NODE else answers[0], arguments.output)
        return 0

    return ask(arguments, explain)


async def _answers(access: Access, subject: Subject) -> Sequence[Answer]:
    match subject.kind:
        case Kind.POD:
            return [await _pod(access, subject)]
        case Kind.ALLOCATION:
            return [await _allocation(access, subject)]
        case Kind.NODE | Kind.GPU:
            return _gpus(await read_snapshot(access), subject)
        case _:
            return [await _maker(access, subject)]


async def _pod(access: Access, subject: Subject) -> Answer:
    key = ObjectKey(access.namespace, subject.name)
    try:
        snapshot, events = await asyncio.gather(read_snapshot(access), read_events(access, "Pod", key))
    except Forbidden as error:
        return await _told(access, key, withheld=sentence(error, server=access.server))
    pod = snapshot.pods.get(key)
    if pod is None:
        names = [known.name for known in snapshot.pods if known.namespace == key.namespace]
        raise missing(subject, names, where=f" in namespace {key.namespace}")
    answer = explain_one(snapshot, pod, events=happenings(events, now=snapshot.at))
    if answer is not None:
        return answer
    if snapshot.seen(pod) is None:
        raise _asks_for_none(key)
    if pod.is_finished:
        raise InputError(f"pod {key} is over ({pod.status.phase}), and has no GPU any more.")
    raise InputError(f"node {pod.node} of pod {key} does not report the pod's GPUs; look at it by arbiter doctor.")


async def _told(access: Access, key: ObjectKey, *, withheld: str) -> ToldExplanation:
    """The pod alone, for those who may read their own namespace only."""
    pod = await access.client.get(TIMED_PODS, key.name, namespace=key.namespace, within=access.within)
    seen = gpu_pod(pod, unit=GIB)
    if seen is None:
        raise _asks_for_none(key)
    events, now = await read_events(access, "Pod", key), time.time()
    return explain_told(pod, seen, withheld=withheld, now=now, events=happenings(events, now=now))


def _asks_for_none(key: ObjectKey) -> InputError:
    return InputError(
        f"pod {key} asks for no GPU memory; annotate its template with {a.ALLOCATION} or {a.WORKLOAD_TYPE}."
    )


async def _allocation(access: Access, subject: Subject) -> Group:
    key = ObjectKey(access.namespace, subject.name)
    snapshot, events = await asyncio.gather(read_snapshot(access), read_events(access, "GpuAllocation", key))
    allocation = snapshot.cluster.allocations.get(key)
    if allocation is None:
        names = [known.name for known in snapshot.cluster.allocations if known.namespace == key.namespace]
        raise missing(subject, names, where=f" in namespace {key.namespace}")
    return explain_allocation(snapshot, allocation, events=happenings(events, now=snapshot.at))


async def _maker(access: Access, subject: Subject) -> Group:
    client, resource, namespace = access.client, _MAKERS[subject.kind], access.namespace
    known = await client.list(resource, namespace=namespace, within=access.within)
    maker = next((one for one in known if one.metadata.name == subject.name), None)
    if maker is None:
        raise missing(subject, [one.metadata.name for one in known], where=f" in namespace {namespace}")
    through: Sequence[Maker] = [maker]
    if subject.kind is Kind.DEPLOYMENT:
        sets = await client.list(REPLICA_SETS, namespace=namespace, within=access.within)
        uid = maker.metadata.uid
        through = [one for one in sets if any(owner.uid == uid for owner in one.metadata.owner_references)]
    through_kind = REPLICA_SETS.kind if subject.kind is Kind.DEPLOYMENT else resource.kind
    told = await asyncio.gather(*(read_events(access, through_kind, one.metadata.key) for one in through))
    made = Made(kind=resource.kind, maker=maker, through=through, events=[event for some in told for event in some])
    return explain_maker(await read_snapshot(access), made)


def _gpus(snapshot: Snapshot, subject: Subject) -> list[GpuExplanation]:
    state = snapshot.cluster.node_state(NodeName(subject.name))
    if state is None:
        raise missing(Subject(Kind.NODE, subject.name), [*snapshot.cluster.reports], where=" with GPUs")
    gpus = [gpu for gpu in state.report.gpus if subject.index in (None, gpu.index)]
    if not gpus:
        here = ", ".join(str(gpu.index) for gpu in state.report.gpus) or "none"
        raise InputError(f"node {state.name} has no GPU {subject.index}; it has {here}.")
    return [explain_gpu(snapshot, state, gpu) for gpu in gpus]
