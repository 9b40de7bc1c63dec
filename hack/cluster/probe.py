"""Asks a server whether it is ready, once and with a short limit. Imports the standard library only."""

import http.client
import ssl

_SECONDS = 2.0


def answers(address: str, port: int, path: str, *, tls: ssl.SSLContext | None = None) -> bool:
    """Says whether a GET of `path` is answered with status 200."""
    if tls is None:
        connection = http.client.HTTPConnection(address, port, timeout=_SECONDS)
    else:
        connection = http.client.HTTPSConnection(address, port, timeout=_SECONDS, context=tls)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
