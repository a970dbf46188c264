"""Status line and fields of an HTTP/1.1 answer (RFC 9112 4, 5)."""

from __future__ import annotations

from http import HTTPStatus

from mailward.rpc.http import Response

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


def response_head(response: Response, version: str, keep_alive: bool, date_line: str) -> bytes:
    """Return status line and fields. Raises ValueError for a field with a line break in it (response splitting).

    `version`: of the request. `date_line`: the Date field with CRLF, for an answer that has none.
    """
    status = response.status
    lines = [_STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n"]
    dated = sized = False
    for name, value in response.headers:
        lines.append(f"{name}: {value}\r\n")
        if len(name) == 14 and name.lower() == "content-length":
            sized = True
        elif len(name) == 4 and name.lower() == "date":
            dated = True
    text = "".join(lines)
    if text.count("\n") != len(lines) or text.count("\r") != len(lines):
        raise ValueError("line break in a header field")
    tail = "" if dated else date_line
    if not sized and status != 204 and status != 304:
        tail += f"content-length: {len(response.body)}\r\n"
    if not keep_alive:
        tail += "connection: close\r\n"
    elif version == "1.0":
        tail += "connection: keep-alive\r\n"
    text = f"{text}{tail}\r\n"
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8")


def bare_answer(status: int, date_line: str) -> bytes:
    """Return a whole answer that says no more than `status`, the last of its connection."""
    text = f"{status} {HTTPStatus(status).phrase}".encode("latin-1")
    response = Response(status, [("content-type", "text/plain; charset=utf-8")], text)
    return response_head(response, "1.1", False, date_line) + text
