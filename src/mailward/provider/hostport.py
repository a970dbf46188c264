"""Reading "host:port", taking and refusing what the original does (spec 3.1), and what a port text means."""

#: Services of mail by name (IANA); a table, because what a name means must not depend on the machine.
_SERVICES = {"smtp": 25, "submissions": 465, "smtps": 465, "submission": 587}


def split(text: str) -> tuple[str, str]:
    """Return (host without brackets, port text); either may be empty, and the port need not be a number.

    "[::1]:25", ":25", ":", "host:", "host:smtp", "host:99999" are taken. Raises ValueError for "host", "::1:25",
    "a:b:25", "[::1]", "[::1:25", "smtp://host:25": no colon, one too many outside brackets, brackets that do not match.
    """
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not rest.startswith(":"):
            raise ValueError(f"no port after the brackets in {text!r}")
        port = rest[1:]
    else:
        host, colon, port = text.partition(":")
        if not colon:
            raise ValueError(f"no port in {text!r}")
    if ":" in port:
        raise ValueError(f"too many colons in {text!r}; an IPv6 address needs brackets")
    if not {"[", "]"}.isdisjoint(host + port):
        raise ValueError(f"brackets in {text!r} do not match")
    return host, port


def port_number(port: str) -> int | None:
    """Return 1-65535, or None when `port` is empty, out of range, or no known name ("smtp", "submission", ...)."""
    if port.isascii() and port.isdigit():
        number = int(port) if len(port) <= 5 else 0
        return number if 1 <= number <= 65535 else None
    return _SERVICES.get(port.lower())
