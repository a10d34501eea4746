# SPDX-License-Identifier: Apache-2.0
"""An OpenAI-compatible server on loopback that fails on command."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FakeEndpoint:
    """Takes requests; `script` says what each gets, `default` what comes when it is used up.

    A step is a reply text, ("status", code, headers, body), "drop", "slow", or "garbage".
    """

    def __init__(self) -> None:
        self.script: list = []
        self.default: Callable[[str], str] = lambda prompt: "7 5"
        self.requests: list[dict] = []
        self.keys: list[str | None] = []
        self.released = threading.Event()  # ends what is slow
        self._lock = threading.Lock()

    def take(self, body: dict, key: str | None):
        with self._lock:
            self.requests.append(body)
            self.keys.append(key)
            return self.script.pop(0) if self.script else self.default(body["messages"][0]["content"])

    @property
    def prompts(self) -> list[str]:
        return [request["messages"][0]["content"] for request in self.requests]


@contextmanager
def serving() -> Iterator[tuple[FakeEndpoint, str]]:
    """The server and its base URL."""
    fake = FakeEndpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            step = fake.take(body, self.headers.get("Authorization"))
            if step == "drop":
                self.close_connection = True
                self.connection.close()
                return
            if step == "slow":
                fake.released.wait(20)
                step = "1 1"
            status, headers, text = 200, {}, json.dumps({"choices": [{"message": {"content": step}}]})
            if step == "garbage":
                text = '{"choices": []}'
            elif isinstance(step, tuple):
                _, status, headers, text = step
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            data = text.encode()
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError, ValueError, OSError):  # the client gave up, or we dropped it
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield fake, f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        fake.released.set()
        server.shutdown()
        server.server_close()
