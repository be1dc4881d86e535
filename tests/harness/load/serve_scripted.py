"""``python serve_scripted.py PORT``: the scripted server as a command."""

from __future__ import annotations

import sys
from pathlib import Path

from aiohttp import web

sys.path.insert(0, str(Path(__file__).parent))

from scripted_server import Scripted, application


def main() -> None:
    app = application(Scripted(first_s=0.02, gap_s=0.01, trouble={7: "busy"}))
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)


if __name__ == "__main__":
    main()
