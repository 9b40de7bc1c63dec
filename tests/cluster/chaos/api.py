"""The API server by plain HTTP, for tests that ask and change much: kubectl takes half a second for each."""

import http.client
import json
from collections.abc import Iterator
from typing import Any

from hack.cluster.controlplane import ControlPlane

_SECONDS = 5.0
_WATCH_SECONDS = 15.0

GROUP = "/apis/arbiter.infernum.io/v1alpha1"


class UnavailableError(Exception):
    """The API server, or a webhook that it asks, does not answer now: try again."""


class RefusedError(Exception):
    """The API server refuses; the text is its own."""


class Api:
    """One cluster's API server, as its administrator."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._place = control_plane.place
        pair = control_plane.authority.issue("user+chaos", common_name="chaos", organizations=("system:masters",))
        self._tls = control_plane.authority.client_context(pair)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """The answer; None where there is no such object.

        Raises:
            UnavailableError: nobody answers, or a webhook does not.
            RefusedError: any other answer than success.
        """
        connection = self._connect(_SECONDS)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), _headers(method))
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(str(error)) from error
        finally:
            connection.close()
        if answer.status == http.client.NOT_FOUND:
            return None
        if answer.status >= http.client.INTERNAL_SERVER_ERROR or answer.status == http.client.TOO_MANY_REQUESTS:
            raise UnavailableError(text.decode())
        if answer.status >= http.client.BAD_REQUEST:
            raise RefusedError(text.decode())
        answered: dict[str, Any] = json.loads(text)
        return answered

    def watch(self, path: str, version: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """What happens from a version on, as (type, object), until the API server ends the watch.

        Raises:
            UnavailableError: it broke off, or the API server no longer has that version.
        """
        connection = self._connect(_WATCH_SECONDS + _SECONDS)
        query = f"?watch=1&resourceVersion={version}&timeoutSeconds={_WATCH_SECONDS:g}&allowWatchBookmarks=true"
        try:
            connection.request("GET", path + query)
            answer = connection.getresponse()
            while line := answer.readline():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise UnavailableError(str(event["object"]))
                yield event["type"], event["object"]
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise UnavailableError(str(error)) from error
        finally:
            connection.close()

    def _connect(self, seconds: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            self._place.address, self._place.ports.apiserver, timeout=seconds, context=self._tls
        )


def _headers(method: str) -> dict[str, str]:
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    return {"Content-Type": kind}
