"""What a client is told when it cannot be served, in OpenAI's shape."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

RETRY_AFTER_S = 1


class Refused(Exception):  # noqa: N818  an answer to a client, not a fault
    """A request that gets no answer but this.

    Args:
        message: why, and what to do.
        param: the field that is to blame.
        code: OpenAI's word for it, where it has one.
        status: of HTTP.
    """

    def __init__(self, message: str, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.message, self.param, self.code, self.status = message, param, code, status

    @property
    def kind(self) -> str:
        """OpenAI's ``type``."""
        if self.status == 503:
            return "service_unavailable_error"
        return "invalid_request_error" if self.status < 500 else "server_error"

    def body(self) -> dict[str, Any]:
        """``{"error": {"message", "type", "param", "code"}}``."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> web.Response:
        """As an answer of its own; 503 says when to come again."""
        headers = {"Retry-After": str(RETRY_AFTER_S)} if self.status == 503 else None
        return web.json_response(self.body(), status=self.status, headers=headers)

    def event(self) -> bytes:
        """As the last event of a stream."""
        return b"event: error\ndata: " + json.dumps(self.body()).encode() + b"\n\n"
