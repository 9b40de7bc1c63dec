"""Asks a Prometheus; imports the standard library only."""

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

_SECONDS = 30.0

Json = Any  # what Prometheus answers


class PrometheusError(Exception):
    """It does not answer, or not as it was asked; the text has what it said."""


@dataclass(frozen=True, slots=True)
class Series:
    """Values by time (seconds since the epoch) under labels; one value where one moment was asked for."""

    labels: dict[str, str]
    values: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """One at a URL."""

    url: str

    def at(self, expr: str, time: float) -> list[Series]:
        """What an expression is at one moment, in seconds since the epoch."""
        found = self._get("query", query=expr, time=time)["result"]
        return [Series(one["metric"], (_point(one["value"]),)) for one in found]

    def between(self, expr: str, start: float, end: float, *, step: float) -> list[Series]:
        """What an expression was every `step` seconds of a time."""
        found = self._get("query_range", query=expr, start=start, end=end, step=step)["result"]
        return [Series(one["metric"], tuple(map(_point, one["values"]))) for one in found]

    def parsed(self, expr: str) -> Json:
        """The syntax tree of an expression."""
        return self._get("parse_query", query=expr)

    def rules(self) -> list[Json]:
        """Every rule, with its health."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def targets(self) -> list[Json]:
        """Every target, with its health."""
        found: list[Json] = self._get("targets")["activeTargets"]
        return found

    def _get(self, what: str, **parameters: Any) -> Json:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_SECONDS)
        try:
            connection.request("GET", f"{parts.path}/api/v1/{what}?{urlencode(parameters)}")
            answer = json.loads(connection.getresponse().read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise PrometheusError(f"{self.url} does not answer: {error}") from error
        finally:
            connection.close()
        if answer["status"] != "success":
            raise PrometheusError(f"{self.url}: {answer['error']}")
        return answer["data"]


def _point(pair: tuple[float, str]) -> tuple[float, float]:
    return pair[0], float(pair[1])
