"""``python serve_scripted.py PORT``: the scripted server as a command."""

from __future__ import annotations

import sys
from pathlib import Path

from aiohttp import web

sys.path.insert(0, str(Path(__file__).parent))

from scripted_server import Scripted


async def models(_: web.Request) -> web.Response:
    return web.json_response({"data": [{"id": "scripted", "max_model_len": 4096, "vocab_size": 100}]})


def main() -> None:
    app = web.Application()
    app.router.add_post("/v1/completions", Scripted(first_s=0.02, gap_s=0.01, trouble={7: "busy"}).answer)
    app.router.add_get("/v1/models", models)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)


if __name__ == "__main__":
    main()
