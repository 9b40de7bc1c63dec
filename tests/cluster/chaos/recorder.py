"""Records every version of the objects that matter, from watches of its own, while the chaos goes on."""

import contextlib
import json
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster.chaos.api import GROUP, Api, UnavailableError
from tests.cluster.chaos.checker import last_told
from tests.cluster.chaos.history import (
    History,
    Moment,
    NodeSeen,
    PodSeen,
    node_seen,
    pod_seen,
    policy_seen,
    wanted_by,
)
from tests.cluster.chronicle import Chronicle

PODS = "/api/v1/namespaces/default/pods"
NODES = f"{GROUP}/gpunodes"
POLICIES = f"{GROUP}/qualitypolicies"
ALLOCATIONS = f"{GROUP}/namespaces/default/gpuallocations"

_PAUSE_SECONDS = 0.2


class Recorder:
    """`with Recorder(api, chronicle, log=…)`: follows until the end; every version is a line of the log, too."""

    def __init__(self, api: Api, chronicle: Chronicle, *, log: Path) -> None:
        self._api, self._chronicle = api, chronicle
        self._log = log.open("a", encoding="utf-8")
        self._now: dict[str, dict[str, dict[str, Any]]] = {path: {} for path in (PODS, NODES, POLICIES, ALLOCATIONS)}
        self._pods: list[PodSeen] = []
        self._nodes: list[NodeSeen] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._follow, args=(path,), name=path) for path in self._now]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._log.close()

    def history(self) -> History:
        """Everything until now."""
        journals = self._chronicle.journals()
        with self._lock:
            return History(pods=tuple(self._pods), nodes=tuple(self._nodes), journals=journals)

    def moment(self) -> Moment:
        """Everything as it stands, asked for anew.

        Raises:
            UnavailableError: the API server does not answer.
        """
        for path in self._now:
            self._list(path)
        now = time.time()
        told = last_told(self._chronicle.journals())
        with self._lock:
            pods = [pod_seen(item, now) for item in self._now[PODS].values()]
            return Moment(
                pods={pod.uid: pod for pod in pods if pod is not None},
                nodes={name: node_seen(item, now) for name, item in self._now[NODES].items()},
                policies={name: policy_seen(item) for name, item in self._now[POLICIES].items()},
                wanted={name: wanted_by(item) for name, item in self._now[ALLOCATIONS].items()},
                told=told,
            )

    def _follow(self, path: str) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(UnavailableError):
                version = self._list(path)
                for kind, item in self._api.watch(path, version):
                    if kind == "DELETED":
                        self._gone(path, item["metadata"]["name"], at=_version(item))
                    elif kind != "BOOKMARK":
                        self._seen(path, item)
                    if self._stop.is_set():
                        return
            time.sleep(_PAUSE_SECONDS)

    def _list(self, path: str) -> str:
        answer = self._api.call("GET", path)
        assert answer is not None, f"{path} is not served"
        names = {item["metadata"]["name"] for item in answer["items"]}
        for item in answer["items"]:
            self._seen(path, item)
        version = str(answer["metadata"]["resourceVersion"])
        for name in {*self._now[path]} - names:
            self._gone(path, name, at=int(version))
        return version

    def _seen(self, path: str, item: dict[str, Any]) -> None:
        name, now = item["metadata"]["name"], time.time()
        with self._lock:
            known = self._now[path].get(name)
            # A watch that lags behind a list tells old versions; a restarted API server tells them again.
            if known is not None and _version(item) <= _version(known):
                return
            self._now[path][name] = item
            self._write(now, item)
            if path == PODS and (pod := pod_seen(item, now)) is not None:
                self._pods.append(pod)
            elif path == NODES:
                self._nodes.append(node_seen(item, now))

    def _gone(self, path: str, name: str, *, at: int) -> None:
        with self._lock:
            known = self._now[path].get(name)
            # A namesake may have been made since.
            if known is not None and _version(known) <= at:
                del self._now[path][name]
                self._write(time.time(), {"gone": name, "from": path})

    def _write(self, now: float, item: dict[str, Any]) -> None:
        json.dump({"time": now, "object": item}, self._log)
        self._log.write("\n")


def _version(item: dict[str, Any]) -> int:
    return int(item["metadata"]["resourceVersion"])
