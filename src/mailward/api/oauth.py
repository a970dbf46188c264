"""The token server that ZITADEL's clients sign in at with a key file or a secret, and what they ask next (spec 8.5)."""

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from urllib.parse import parse_qsl, unquote_plus

import orjson

from mailward.access.access import Access
from mailward.access.account_queries import ClientRow, KeyRow
from mailward.access.accounts import LIFETIME_S, Accounts
from mailward.access.assertion import BadAssertion
from mailward.access.guesses import SignIn
from mailward.api.hosts import Hosts, base_url
from mailward.errors import FailedPrecondition, MailwardError, NotFound, TooManyFailures, Unavailable
from mailward.rpc.http import Handler, Request, Response

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
CLIENT_CREDENTIALS = "client_credentials"
#: The scope that makes a token good for the API.
API_AUDIENCE = "urn:zitadel:iam:org:project:id:zitadel:aud"

_FORM = "application/x-www-form-urlencoded"
_NO_CLIENT = "client_id or client_assertion must be provided"
_NO_STORE = [("cache-control", "no-store"), ("pragma", "no-cache")]
_MAX_FIELDS = 50


class Refusal(Exception):
    """An error as RFC 6749 5.2 words it."""

    def __init__(self, error: str, description: str = "", *, status: int = 400) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status


class OAuth:
    """Discovery, keys, tokens, introspection, revocation and user info."""

    def __init__(self, access: Access, accounts: Accounts, hosts: Hosts) -> None:
        self._access = access
        self._accounts = accounts
        self._guesses = access.guesses
        self._hosts = hosts

    def routes(self) -> dict[str, Handler]:
        """Return path → handler."""
        return {
            "/.well-known/openid-configuration": self._ours(self._discover),
            "/oauth/v2/keys": self._ours(self._keys),
            "/oauth/v2/token": self._ours(_answering(self._token)),
            "/oauth/v2/introspect": self._ours(_answering(self._introspect)),
            "/oauth/v2/revoke": self._ours(_answering(self._revoke)),
            "/oauth/v2/": _unknown,
            "/oidc/v1/userinfo": self._ours(_answering(self._user_info)),
        }

    def _ours(self, handler: Callable[[Request], Awaitable[Response]]) -> Handler:
        """Answer only under a host of the instance."""

        def run(request: Request) -> Response | Awaitable[Response]:
            if self._hosts.stranger(dict(request.headers)) is not None:
                return Response(404, [("content-type", "text/plain; charset=utf-8")], b"Instance not found\n")
            return handler(request)

        return run

    async def _discover(self, request: Request) -> Response:
        base = base_url(request)
        document = {
            "issuer": base,
            "token_endpoint": f"{base}/oauth/v2/token",
            "jwks_uri": f"{base}/oauth/v2/keys",
            "introspection_endpoint": f"{base}/oauth/v2/introspect",
            "userinfo_endpoint": f"{base}/oidc/v1/userinfo",
            "revocation_endpoint": f"{base}/oauth/v2/revoke",
            "grant_types_supported": [CLIENT_CREDENTIALS, JWT_BEARER],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "scopes_supported": ["openid"],
            "response_types_supported": [],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        return _json(200, document)

    async def _keys(self, request: Request) -> Response:
        body = orjson.dumps({"keys": await self._accounts.public_keys()})
        headers = [("content-type", "application/json"), ("cache-control", "max-age=300, must-revalidate")]
        return Response(200, headers, body)

    async def _token(self, request: Request) -> Response:
        """Issue an access token. Only a form in the body is read: what stands in an address ends up in logs."""
        form = _form(request)
        grant = form.get("grant_type", "")
        if not grant:
            raise Refusal("invalid_request", "grant_type missing")
        if grant == JWT_BEARER:
            by: KeyRow | ClientRow = await self._by_assertion(request, form)
        elif grant == CLIENT_CREDENTIALS:
            by = await self._by_secret(request, form)
        else:
            raise Refusal("unsupported_grant_type", f"{grant} not supported")
        if "scope" not in form:
            raise Refusal("invalid_request", f"the scope of the token is missing; for the API ask for {API_AUDIENCE}")
        scopes = form["scope"].split()
        try:
            token = await self._accounts.issue(by, for_api=API_AUDIENCE in scopes, peer=request.peer)
        except FailedPrecondition as error:
            raise Refusal("invalid_grant", error.message) from None
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": LIFETIME_S - 1}
        if "openid" in scopes:
            answer["id_token"] = await self._accounts.id_token(
                by.user_id, base_url(request), token, by_secret=grant == CLIENT_CREDENTIALS
            )
        return _json(200, answer)

    async def _by_assertion(self, request: Request, form: Mapping[str, str]) -> KeyRow:
        if not form.get("assertion"):
            raise Refusal("invalid_request", "assertion missing")
        said = form["assertion"], base_url(request)
        attempt = SignIn("http", request.peer, is_proven=partial(self._accounts.signed_in_before, *said))
        async with self._guesses.turn(attempt):
            try:
                return await self._accounts.by_assertion(*said)
            except BadAssertion as fault:
                await self._guesses.wrong(attempt, "assertion")
                raise Refusal("invalid_grant", str(fault)) from None

    async def _by_secret(self, request: Request, form: Mapping[str, str]) -> ClientRow:
        client_id, secret = _client(request, form)
        if not client_id:
            raise Refusal("invalid_request", _NO_CLIENT)
        attempt = SignIn("http", request.peer, secret, account=client_id)
        async with self._guesses.turn(attempt):
            try:
                client = await self._accounts.by_secret(client_id, secret)
            except NotFound as error:
                await self._guesses.wrong(attempt, "unknown client")
                raise Refusal("invalid_client", error.message) from None
            if client is None:
                await self._guesses.wrong(attempt, "secret")
                raise Refusal("invalid_request", "Errors.User.Machine.Secret.Invalid")
            self._guesses.right(attempt)
            return client

    async def _introspect(self, request: Request) -> Response:
        """Refuse: introspection is for applications, and there are none here."""
        form = _form(request)
        client_id, _ = _client(request, form)
        if not client_id and not form.get("client_assertion"):
            raise Refusal("invalid_request", _NO_CLIENT)
        if not form.get("token"):
            raise Refusal("invalid_request", "token missing")
        raise Refusal("unauthorized_client")

    async def _revoke(self, request: Request) -> Response:
        """Refuse, as the original does to service accounts."""
        _form(request)
        raise Refusal("invalid_client")

    async def _user_info(self, request: Request) -> Response:
        scheme, _, token = request.headers.get("authorization").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refusal("invalid_request", "access token missing", status=401)
        caller = await self._access.admit(token, "http", request.peer, for_api=False)
        if caller is None:
            raise Refusal("access_denied", "access token invalid", status=401)
        return _json(200, {"sub": caller.user_id})


def _answering(work: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def run(request: Request) -> Response:
        try:
            return await work(request)
        except Refusal as refusal:
            body = {"error": refusal.error}
            if refusal.description:
                body["error_description"] = refusal.description
            return _json(refusal.status, body)
        except TooManyFailures as error:
            answer = _json(429, {"error": "temporarily_unavailable", "error_description": error.message})
            answer.headers.append(("retry-after", str(error.retry_after_s)))
            return answer
        except Unavailable as error:
            return _json(503, {"error": "temporarily_unavailable", "error_description": error.message})
        except MailwardError as error:
            return _json(400, {"error": "invalid_request", "error_description": error.message})

    return run


def _unknown(request: Request) -> Response:
    return Response(404, [("content-type", "text/plain; charset=utf-8")], b"404 page not found\n")


def _form(request: Request) -> dict[str, str]:
    """Return the fields of a form in the body, {} for any other body; the first of a name counts."""
    if request.method != "POST" or request.headers.get("content-type").partition(";")[0].strip().lower() != _FORM:
        return {}
    if request.too_large:
        raise Refusal("invalid_request", "the form is too large", status=413)
    try:
        text = request.body.decode("ascii")
        _check_escapes(text)
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise Refusal("invalid_request", "error parsing form") from None
    fields: dict[str, str] = {}
    for name, value in pairs:
        fields.setdefault(name, value)
    return fields


def _check_escapes(text: str) -> None:
    """Raise ValueError for a "%" that begins no escape; the standard library takes it as it is."""
    for piece in text.split("%")[1:]:
        bytes.fromhex(piece[:2] if len(piece) >= 2 and " " not in piece[:2] else "bad")


def _client(request: Request, form: Mapping[str, str]) -> tuple[str, str]:
    """Return the client's id and secret, from Basic authorization or from the form; "" for what is not there."""
    scheme, _, encoded = request.headers.get("authorization").partition(" ")
    if scheme.lower() == "basic":
        try:
            name, colon, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            name, colon, secret = "", "", ""
        if colon:
            return unquote_plus(name), unquote_plus(secret)  # RFC 6749 2.3.1
    return form.get("client_id", ""), form.get("client_secret", "")


def _json(status: int, body: object) -> Response:
    return Response(status, [("content-type", "application/json"), *_NO_STORE], orjson.dumps(body))
