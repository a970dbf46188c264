"""SASL in SMTP (RFC 4954): PLAIN (RFC 4616), LOGIN; for clients also OAUTHBEARER (RFC 7628), XOAUTH2."""

import binascii
import json
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field

MAX_RESPONSE_BYTES = 12288  #: RFC 4954 4: the longest line of an exchange
_USERNAME_PROMPT = b64encode(b"Username:")
_PASSWORD_PROMPT = b64encode(b"Password:")


MECHANISMS = ("PLAIN", "LOGIN")  #: in order of preference
TOKEN_MECHANISMS = ("OAUTHBEARER", "XOAUTH2")  #: the same, for a login by token


class Canceled(Exception):
    """The client sent "*" instead of a response."""


class MalformedResponse(ValueError):
    """A response that is not Base64, not UTF-8, or not of the mechanism's form."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client claims to be. The password shows in no repr."""

    mechanism: str  #: "PLAIN" or "LOGIN"
    authzid: str  #: whom it wants to act as; "" = itself
    authcid: str
    password: str = field(repr=False)


class ServerExchange:
    """The server's side of one exchange: challenges out, responses in, credentials at the end."""

    def __init__(self, mechanism: str) -> None:
        """`mechanism`: one of MECHANISMS."""
        self._mechanism = mechanism
        self._user = ""
        self.first_challenge = b"" if mechanism == "PLAIN" else _USERNAME_PROMPT  #: unless an initial response came

    def respond(self, line: bytes) -> bytes | Credentials:
        """Take the response in `line`; return the next challenge or what the client claims to be.

        Raises Canceled, MalformedResponse.
        """
        if line == b"*":
            raise Canceled
        response = decode(line)
        if self._mechanism == "PLAIN":
            return parse_plain(response)
        if self._user:
            return Credentials("LOGIN", "", self._user, text(response))
        self._user = text(response)
        if not self._user or "\0" in self._user:
            raise MalformedResponse("no user name")
        return _PASSWORD_PROMPT


def encode(response: bytes) -> bytes:
    """Return `response` as an initial response or a line of its own, without CRLF."""
    return b64encode(response) or b"="  # RFC 4954 4: "=" is an empty initial response.


def decode(line: bytes) -> bytes:
    """Return the response in `line`. Raises MalformedResponse."""
    if line == b"=":
        return b""
    try:
        return b64decode(line, validate=True)
    except binascii.Error:
        raise MalformedResponse("not Base64") from None


def plain_message(user: str, password: str) -> bytes:
    """Return the message of PLAIN: no authorization identity, NUL, user, NUL, password."""
    return b"\0%b\0%b" % (user.encode(), password.encode())


def bearer_message(mechanism: str, user: str, token: str, host: str, port: int) -> bytes:
    """Return the message of one of TOKEN_MECHANISMS. `host`, `port`: the server's, as they were dialled."""
    if mechanism == "XOAUTH2":
        return f"user={user}\1auth=Bearer {token}\1\1".encode()
    identity = user.replace("=", "=3D").replace(",", "=2C")  # RFC 5801 4: a saslname
    return f"n,a={identity},\1host={host}\1port={port}\1auth=Bearer {token}\1\1".encode()


#: What each of TOKEN_MECHANISMS answers to a challenge that says why a token is refused (RFC 7628 3.2.3).
REFUSAL_TAKEN = {"OAUTHBEARER": b64encode(b"\1"), "XOAUTH2": b""}


def refusal_words(challenge: str) -> str:
    """Return what a server says of a token that it refuses, e.g. "invalid_token, scope mail.send"; "" when nothing."""
    try:
        said = json.loads(b64decode(challenge))
        status, scope = said.get("status", ""), said.get("scope", "")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return ", ".join(filter(None, [str(status), f"scope {scope}" if scope else ""]))


def without_secrets(text: str, secrets: Iterable[bytes]) -> str:
    """Return `text` with each of `secrets` as "***", plain or in base64.

    For what a server answers to AUTH: some repeat what they were told.
    """
    for secret in filter(None, secrets):
        text = text.replace(encode(secret).decode(), "***").replace(secret.decode(), "***")
    return text


def parse_plain(message: bytes) -> Credentials:
    """Return what `message` claims. Raises MalformedResponse."""
    parts = text(message).split("\0")
    if len(parts) != 3 or not parts[1]:
        raise MalformedResponse("not a PLAIN message")
    return Credentials("PLAIN", *parts)


def text(response: bytes) -> str:
    """Return `response` as text. Raises MalformedResponse."""
    try:
        return response.decode()
    except UnicodeDecodeError:
        raise MalformedResponse("not UTF-8") from None
