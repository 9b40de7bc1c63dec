"""Asks a server one thing, once and with a short limit. Imports the standard library only."""

import http.client
import ssl

_SECONDS = 2.0


def get(address: str, port: int, path: str, *, tls: ssl.SSLContext | None = None) -> bytes | None:
    """Returns the body of a GET that is answered with status 200, else None."""
    if tls is None:
        connection = http.client.HTTPConnection(address, port, timeout=_SECONDS)
    else:
        connection = http.client.HTTPSConnection(address, port, timeout=_SECONDS, context=tls)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.read() if response.status == http.client.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
