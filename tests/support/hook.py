"""An HTTP provider for the built program: the standard library's server in a thread, which shares no code with ours."""

from __future__ import annotations

import hashlib
import hmac
import json
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.waiting import PATIENCE_S


@dataclass(frozen=True)
class Post:
    """A POST that came in."""

    path: str
    fields: dict[str, str]  #: lower-case names
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def recipient(self) -> str:
        return str(self.json["contextInfo"]["recipientEmailAddress"])

    def is_signed_with(self, key: str) -> bool:
        """Check Zitadel-Signature as a receiver does: one of the digests has to be right."""
        (_, at_s), *digests = (part.split("=", 1) for part in self.fields["zitadel-signature"].split(","))
        expected = hmac.new(key.encode(), f"{at_s}.".encode() + self.body, hashlib.sha256).hexdigest()
        return any(name == "v1" and hmac.compare_digest(digest, expected) for name, digest in digests)


class Hook:
    """Takes every POST. Use as a context manager."""

    def __init__(self) -> None:
        self.posts: queue.Queue[Post] = queue.Queue()
        #: What a POST is answered: (status, fields).
        self.answer: Callable[[Post], tuple[int, dict[str, str]]] = lambda post: (200, {})
        hook = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                post = Post(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                status, fields = hook.answer(post)
                if status // 100 == 2:
                    hook.posts.put(post)
                self.send_response(status)
                for name, value in fields.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Hook:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/mail"

    def wait(self, count: int = 1, timeout_s: float = PATIENCE_S) -> list[Post]:
        """Return the next `count` posts. Raises queue.Empty when they do not come."""
        return [self.posts.get(timeout=timeout_s) for _ in range(count)]
