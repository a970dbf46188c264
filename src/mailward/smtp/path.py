"""Paths and parameters of MAIL and RCPT (RFC 5321 4.1.2, RFC 6531 3.3)."""

import re

MAX_LOCAL_PART = 64  #: octets, RFC 5321 4.5.3.1.1
MAX_DOMAIN = 255  #: octets, RFC 5321 4.5.3.1.2

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+"
_QUOTED = r'"(?:[ !#-\[\]-~\u0080-\U0010ffff]|\\[ -~])*"'
_LABEL = r"[A-Za-z0-9\u0080-\U0010ffff](?:[A-Za-z0-9\u0080-\U0010ffff-]*[A-Za-z0-9\u0080-\U0010ffff])?"
_LITERAL = r"\[[!-Z^-~]+\]"
_MAILBOX = rf"((?:{_ATOM}(?:\.{_ATOM})*)|(?:{_QUOTED}))@({_LABEL}(?:\.{_LABEL})*|{_LITERAL})"
_ROUTE = rf"(?:@{_LABEL}(?:\.{_LABEL})*(?:,@{_LABEL}(?:\.{_LABEL})*)*:)?"
_PATH = re.compile(rf" ?<(?:{_ROUTE}{_MAILBOX}|([Pp][Oo][Ss][Tt][Mm][Aa][Ss][Tt][Ee][Rr]))?>(?: +(.*))?")
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\u0080-\U0010ffff]+))?")


class PathError(ValueError):
    """A path or parameter that breaks the syntax; the text says which, for the reply."""


def parse_path(argument: str) -> tuple[str, dict[str, str]]:
    """Return the path and the parameters of `argument`, what follows "MAIL FROM:" or "RCPT TO:".

    The path comes without its brackets and without a source route (RFC 5321 appendix C: ignored); "" is the null
    reverse-path. Parameter names are upper case; a parameter without "=" has the value "". One space after the
    colon is forgiven. Raises PathError.
    """
    found = _PATH.fullmatch(argument)
    if found is None:
        raise PathError("path is not of the form <local-part@domain>")
    local, domain, postmaster, rest = found.groups()
    if local is None:
        path = postmaster or ""
    else:
        if len(argument) > MAX_LOCAL_PART:  # Only then can a part be too long.
            if len(local.encode()) > MAX_LOCAL_PART:
                raise PathError("local part is longer than 64 octets")
            if len(domain.encode()) > MAX_DOMAIN:
                raise PathError("domain is longer than 255 octets")
        path = f"{local}@{domain}"
    return path, _parameters(rest) if rest else {}


def refuse_mail_parameters(parameters: dict[str, str], max_size_bytes: int, names: frozenset[str]) -> bytes | None:
    """Return the reply that refuses `parameters` of MAIL, or None. `names`: allowed beside SIZE, BODY, SMTPUTF8."""
    for name, value in parameters.items():
        if name == "SIZE":
            if not (value.isascii() and value.isdigit()) or len(value) > 20:
                return b"501 5.5.4 SIZE takes a number\r\n"
            if int(value) > max_size_bytes:
                return b"552 5.3.4 message is larger than %d octets\r\n" % max_size_bytes
        elif name == "BODY":
            if value.upper() not in ("7BIT", "8BITMIME"):
                return b"501 5.5.4 BODY takes 7BIT or 8BITMIME\r\n"
        elif name == "SMTPUTF8":
            if value:
                return b"501 5.5.4 SMTPUTF8 takes no value\r\n"
        elif name not in names:
            return b"555 5.5.4 unsupported parameter %b\r\n" % name.encode()
    return None


def _parameters(text: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for word in text.split():
        found = _PARAMETER.fullmatch(word)
        if found is None:
            raise PathError("malformed parameter")
        name = found[1].upper()
        if name in parameters:
            raise PathError(f"parameter {name} given twice")
        parameters[name] = found[2] or ""
    return parameters
