"""One token from a token endpoint, over HTTPS, under the egress policy, deadlines and CAs of its provider."""

import asyncio
import ssl
import time
from dataclasses import replace
from importlib.metadata import version
from urllib.parse import quote_plus
from uuid import uuid4

from mailward.secretbox import SecretText
from mailward.transport import egress
from mailward.transport.base import RelaySettings
from mailward.transport.endpoint import Endpoint, parse_endpoint
from mailward.transport.http_connection import Answer
from mailward.transport.http_opening import open_connection
from mailward.transport.outcome import Stage
from mailward.transport.tls import relay_context
from mailward.transport.token_request import Granted, authorization, read_answer, request_body
from mailward.transport.trouble import Trouble, local

_ANSWER_BYTES = 256 * 1024  # tokens with many claims have tens of kilobytes


async def fetch(settings: RelaySettings, refresh_token: SecretText | None, check: egress.AddressCheck) -> Granted:
    """Ask for a token for the login that `settings.oauth` describes. Raises Trouble of the stage AUTH.

    Redirects are not followed: a secret goes to the endpoint it is stored with, and nowhere else.
    """
    oauth = settings.oauth
    assert oauth is not None
    try:
        endpoint = parse_endpoint(oauth.token_endpoint)
        # A signature takes a millisecond: not on the event loop.
        body = await asyncio.to_thread(request_body, oauth, refresh_token, now_s=int(time.time()), nonce=uuid4().hex)
    except ValueError as error:
        raise local(Stage.AUTH, "token_refused", "4.7.0", f"no token can be asked for: {error}") from None
    by_head = authorization(oauth)
    secrets = [secret for secret in (oauth.client_secret, refresh_token) if secret]
    if by_head and oauth.client_secret:  # A server may repeat a part of it, in either spelling.
        parts = by_head.reveal().partition(" ")[2], quote_plus(oauth.client_secret.reveal())
        secrets += map(SecretText, parts)
    try:
        answer = await _post(settings, endpoint, by_head, body, check)
        return read_answer(answer.status, answer.body, secrets)
    except Trouble as trouble:
        code = trouble.code if trouble.stage is Stage.AUTH else "token_unavailable"
        words = f"no token from {endpoint.host}: {trouble.reply.text}"
        raise local(Stage.AUTH, code, trouble.reply.enhanced, words, trouble.advice) from None


async def _post(
    settings: RelaySettings, endpoint: Endpoint, by_head: SecretText | None, body: bytes, check: egress.AddressCheck
) -> Answer:
    async def context() -> ssl.SSLContext:
        # The CAs are for all hosts of a provider; pins and client certificate are for its mail server.
        return await asyncio.to_thread(relay_context, replace(settings, pins=(), client_key=None))

    def checked(address: str, port: int) -> str | None:
        if not endpoint.is_https and not egress.is_loopback(address):
            return "without TLS a secret goes to loopback only"
        return check(address, port)

    deadlines = replace(settings.deadlines, final_s=settings.deadlines.command_s)
    head = "\r\n".join(
        [
            f"POST {endpoint.target} HTTP/1.1",
            f"Host: {endpoint.authority}",
            f"User-Agent: mailward/{version('mailward')}",
            "Accept: application/json",
            *([f"Authorization: {by_head.reveal()}"] if by_head else []),
            "Content-Type: application/x-www-form-urlencoded",
            f"Content-Length: {len(body)}",
            "Connection: close\r\n\r\n",
        ]
    )
    connection = await open_connection(endpoint, deadlines, context, check=checked, kept_bytes=_ANSWER_BYTES)
    try:
        return await connection.post(head.encode("latin-1"), body, _nothing, deadlines)
    finally:
        connection.abort()


async def _nothing() -> None:
    """A request for a token has no point of no return."""
