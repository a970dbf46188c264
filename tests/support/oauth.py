"""A token server, and a mail server that takes its tokens: on the standard library and aiosmtpd, no code of ours."""

import json
import ssl
import threading
import time
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.support.sink import Sink

SECRET, REFRESH_TOKEN, USER = "s3cret~Value", "refresh-0", "mailbox@example.com"
WRONG_SECRET = {
    "error": "invalid_client",
    "error_description": "AADSTS7000215: Invalid client secret provided.\r\nTrace ID: 1\r\nCorrelation ID: 2",
    "error_codes": [7000215],
}


class TokenServer:
    """Issues tokens at `url` to who knows `secret` or the newest refresh token, or asserts. A context manager."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.forms: list[dict[str, str]] = []  #: of each request that came
        self.heads: list[tuple[str, str]] = []  #: client and secret of each that showed them in its head, decoded
        self.good: set[str] = set()  #: the tokens that a mail server takes
        self.lifetimes_s: list[int] = []  #: of the next tokens; of those after them 3600
        self.delay_s = 0.0  #: before each answer
        self.answer: tuple[int, bytes] | None = None  #: what is answered instead of judging
        self.secret = SECRET
        self.refresh_token = REFRESH_TOKEN
        self.rotates = False
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_address[1]}/token"

    def __enter__(self) -> "TokenServer":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def judge(self, form: dict[str, str], secret: str) -> tuple[int, bytes]:
        """Return status and body of the answer to `form` of who shows `secret`."""
        time.sleep(self.delay_s)
        with self._lock:
            self.forms.append(form)
            if self.answer is not None:
                return self.answer
            if "assertion" not in form and "client_assertion" not in form:
                if form["grant_type"] == "refresh_token":
                    if form["refresh_token"] != self.refresh_token:
                        return 400, b'{"error": "invalid_grant", "error_description": "that one was used"}'
                elif secret != self.secret:
                    return 401, json.dumps(WRONG_SECRET).encode()
            token = f"token-{len(self.forms)}-" + "x" * 500  # too long for the line of AUTH, like Microsoft's
            self.good.add(token)
            lifetime_s = self.lifetimes_s.pop(0) if self.lifetimes_s else 3600
            issued: dict[str, Any] = {"token_type": "Bearer", "access_token": token, "expires_in": lifetime_s}
            if form["grant_type"] == "refresh_token" and self.rotates:
                self.refresh_token = f"refresh-{len(self.forms)}"
                issued["refresh_token"] = self.refresh_token
            return 200, json.dumps(issued).encode()


class _Handler(BaseHTTPRequestHandler):
    owner: TokenServer

    def do_POST(self) -> None:
        form = {k: v[0] for k, v in parse_qs(self.rfile.read(int(self.headers["content-length"])).decode()).items()}
        scheme, _, encoded = self.headers.get("authorization", "").partition(" ")
        secret = form.get("client_secret", "")
        if scheme == "Basic":
            client, _, secret = map(unquote_plus, b64decode(encoded).decode().partition(":"))
            self.owner.heads.append((client, secret))
        status, body = self.owner.judge(form, secret)
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep still."""


class TokenSink(Sink):
    """Takes mail from USER with a token that `tokens` holds good. Use as a context manager."""

    def __init__(self, tokens: TokenServer, *, mechanisms: tuple[str, ...] = ("XOAUTH2",)) -> None:
        self.logins: list[tuple[str, str, bool]] = []  #: mechanism, token, taken
        self._tokens = tokens
        for mechanism in mechanisms:
            setattr(self, f"auth_{mechanism}", lambda server, args, name=mechanism: self._log_in(server, args, name))
        super().__init__(auth_require_tls=False, auth_exclude_mechanism=("PLAIN", "LOGIN"))

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Take mail from who is logged in."""
        if not session.authenticated:
            return "530 5.7.0 log in first"
        return await super().handle_DATA(server, session, envelope)

    async def _log_in(self, server: SMTP, args: list[str], mechanism: str) -> AuthResult:
        said = b64decode(args[1]) if len(args) > 1 else await server.challenge_auth("")
        if not isinstance(said, bytes):
            return AuthResult(success=False)
        fields = dict(part.split("=", 1) for part in said.decode().split("\1") if "=" in part)
        user = fields.get("user") or fields["n,a"].rstrip(",").replace("=2C", ",").replace("=3D", "=")
        token = fields["auth"].removeprefix("Bearer ")
        taken = user == USER and token in self._tokens.good
        self.logins.append((mechanism, token, taken))
        if taken:
            return AuthResult(success=True, auth_data=LoginPassword(user.encode(), token.encode()))
        why = '{"status":"invalid_token","schemes":"bearer","scope":"mail.send"}'
        assert await server.challenge_auth(why) == (b"\1" if mechanism == "OAUTHBEARER" else b"")
        return AuthResult(success=False, handled=False)
