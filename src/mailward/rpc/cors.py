"""Cross-origin requests of browsers (the Fetch standard's CORS protocol): any origin may, with credentials."""

from __future__ import annotations

from mailward.rpc.http import Request, Response

_METHODS = frozenset(("OPTIONS", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"))
_WEB_HEADERS = frozenset(
    (
        "origin",
        "content-type",
        "accept",
        "accept-language",
        "authorization",
        "x-zitadel-orgid",
        "x-user-agent",
        "x-grpc-web",
    )
)
_HEADERS = _WEB_HEADERS | {
    "x-requested-with",
    "connect-protocol-version",
    "connect-timeout-ms",
    "grpc-timeout",
    # Our own API's.
    "idempotency-key",
}
_EXPOSED = "Location, Content-Length, Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin"
_WEB_MAX_AGE_S = "600"
_VARY = ("vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers")


def preflight(request: Request) -> Response | None:
    """Return the answer when `request` is a browser's question for permission, on whatever path; otherwise None.

    A question that is answered with no gets 204 and no Access-Control field. One that names x-grpc-web is gRPC-Web's,
    whose list of fields is shorter and whose answer may be kept. The order of the requested fields does not matter.
    """
    method = request.headers.get("access-control-request-method")
    if request.method != "OPTIONS" or not method:
        return None
    response = Response(204, [_VARY])
    origin = request.headers.get("origin")
    asked = request.headers.get("access-control-request-headers")
    names = {name.strip().lower() for name in asked.split(",")} - {""}
    web = "x-grpc-web" in names
    if not origin or not names <= (_WEB_HEADERS if web else _HEADERS):
        return response
    if method not in (("POST",) if web else _METHODS):
        return response
    response.headers += (
        ("access-control-allow-origin", origin),
        ("access-control-allow-methods", method),
        ("access-control-allow-credentials", "true"),
    )
    if asked:
        response.headers.append(("access-control-allow-headers", asked))
    if web:
        response.headers.append(("access-control-max-age", _WEB_MAX_AGE_S))
    return response


def allow(request: Request, response: Response) -> None:
    """Let the page of the request's Origin, if it has one, read `response`, errors included."""
    if request.method == "OPTIONS" and response.status == 204:  # A preflight, which has its own fields.
        return
    origin = request.headers.get("origin")
    if origin:
        response.headers += (
            ("access-control-allow-origin", origin),
            ("access-control-allow-credentials", "true"),
            ("access-control-expose-headers", _EXPOSED),
            ("vary", "Origin"),
        )
