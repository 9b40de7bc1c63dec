"""The least that an extender in Python does: reads a request, answers with the names that came, and knows nothing."""

import sys

import msgspec
from aiohttp import web


class _Args(msgspec.Struct, rename="pascal"):
    pod: msgspec.Raw
    node_names: list[str]


async def _answer(request: web.Request) -> web.Response:
    names = msgspec.json.decode(await request.read(), type=_Args).node_names
    return web.Response(body=msgspec.json.encode({"NodeNames": names}), content_type="application/json")


if __name__ == "__main__":
    application = web.Application(client_max_size=1 << 23)
    application.add_routes([web.post("/filter", _answer)])
    web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
