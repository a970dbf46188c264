"""The `email` rule of validate.proto: one mailbox (RFC 5322 3.4) with a host name, and why a text is none."""

from __future__ import annotations

import ipaddress


def email_fault(text: str) -> str | None:
    """Return None if `text` is one mailbox, e.g. "a@b.example" or "Ada <a@b.example>", otherwise the cause.

    The causes are worded as clients of ZITADEL know them ("mail: missing '@' or angle-addr"). Lengths of address,
    local part and labels count bytes; so the rule is stricter than RFC 6531 and knows no U-labels.
    """
    try:
        local, domain = _Parser(text).single_mailbox()
    except _Refused as refused:
        return f"mail: {refused}"
    address = f"{local}@{domain}"
    if len(address.encode()) > 254:
        return "email addresses cannot exceed 254 characters"
    # A quoted local part may hold an "@"; what follows the first one counts as host, as in the original.
    local, _, host = address.partition("@")
    if len(local.encode()) > 64:
        return "email address local phrase cannot exceed 64 characters"
    return _host_fault(host)


def _host_fault(host: str) -> str | None:
    if len(host.encode()) > 253:
        return "hostname cannot exceed 253 characters"
    for label in host.lower().split("."):
        if not 0 < len(label.encode()) <= 63:
            return "hostname part must be non-empty and cannot exceed 63 characters"
        if label[0] == "-":
            return "hostname parts cannot begin with hyphens"
        if label[-1] == "-":
            return "hostname parts cannot end with hyphens"
        for char in label:
            if not (char.isascii() and char.isalnum()) and char != "-":
                return f"hostname parts can only contain alphanumeric characters or hyphens, got {quoted(char)}"
    return None


def quoted(text: str) -> str:
    """Return `text` between double quotes, as the original quotes what it found: printable characters stay."""
    named = {'"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    named["\v"] = "\\v"
    return '"' + "".join(named.get(char) or (char if char.isprintable() else _escaped(char)) for char in text) + '"'


def _escaped(char: str) -> str:
    number = ord(char)
    if number < 0x80:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


class _Refused(Exception):
    """Why the text is no mailbox, without the "mail: " in front."""


_SPECIALS = frozenset('()<>[]:;@\\,"')


def _is_atext(char: str) -> bool:
    """RFC 5322 3.2.3, letters beyond ASCII included (RFC 6532); the dot is left to the caller."""
    return char > " " and char != "\x7f" and char != "." and char not in _SPECIALS


class _Parser:
    """A cursor over the text; every method consumes what it returns, or raises _Refused."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def single_mailbox(self) -> tuple[str, str]:
        """Return (local part without quoting, domain) of the only mailbox in the text."""
        self._blanks()
        if not self._next():
            raise _Refused("no address")
        found = self._address(group_allowed=True)
        self._blanks_and_comments()
        if self._next():
            raise _Refused(f"expected single address, got {quoted(self._text[self._at :])}")
        if not found:
            raise _Refused("empty group")
        if len(found) > 1:
            raise _Refused("group with multiple addresses")
        return found[0]

    def _address(self, *, group_allowed: bool) -> list[tuple[str, str]]:
        """address = mailbox / group; mailbox = name-addr / addr-spec."""
        self._blanks()
        start = self._at
        try:
            plain = self._addr_spec()
        except _Refused:
            self._at = start
        else:
            self._blanks_and_comments()
            return [plain]
        name = "" if self._next() == "<" else self._phrase()
        self._blanks()
        if group_allowed and self._skip(":"):
            return self._group()
        if not self._skip("<"):
            # One word may be half an address; several are a name without one.
            alone = all(_is_atext(char) or char == "." for char in name)
            raise _Refused("missing '@' or angle-addr" if alone else "no angle-addr")
        inner = self._addr_spec()
        if not self._skip(">"):
            raise _Refused("unclosed angle-addr")
        return [inner]

    def _group(self) -> list[tuple[str, str]]:
        """What follows the ":" of a group, up to its ";"."""
        self._blanks_and_comments()
        members: list[tuple[str, str]] = []
        if self._skip(";"):
            return members
        while True:
            members += self._address(group_allowed=False)
            self._blanks_and_comments()
            if self._skip(";"):
                return members
            if not self._skip(","):
                raise _Refused("expected comma")

    def _addr_spec(self) -> tuple[str, str]:
        if self._next() == '"':
            local = self._quoted_string()
            if not local:
                raise _Refused("empty quoted string in addr-spec")
        else:
            local = self._dot_atom()
        if not self._skip("@"):
            raise _Refused("missing @ in addr-spec")
        self._blanks()
        if not self._next():
            raise _Refused("no domain in addr-spec")
        return local, self._literal() if self._next() == "[" else self._dot_atom()

    def _dot_atom(self) -> str:
        atom = self._atom()
        if atom.startswith("."):
            raise _Refused("leading dot in atom")
        if ".." in atom:
            raise _Refused("double dot in atom")
        if atom.endswith("."):
            raise _Refused("trailing dot in atom")
        return atom

    def _atom(self) -> str:
        """Consume atext and dots, wherever the dots are."""
        start = self._at
        while (char := self._next()) and (_is_atext(char) or char == "."):
            self._at += 1
        if self._at == start:
            raise _Refused("invalid string")
        return self._text[start : self._at]

    def _phrase(self) -> str:
        """A display name: words, quoted or not, with blanks and comments between them."""
        words: list[str] = []
        while True:
            if words:
                self._blanks_and_comments()
            if not self._next() and words:
                break
            try:
                words.append(self._quoted_string() if self._next() == '"' else self._atom())
            except _Refused as refused:
                if not words:
                    raise _Refused(f"missing word in phrase: mail: {refused}") from None
                break
        return " ".join(words)

    def _quoted_string(self) -> str:
        end = self._at + 1
        chars: list[str] = []
        while True:
            if end >= len(self._text):
                raise _Refused("unclosed quoted-string")
            char = self._text[end]
            if char == '"':
                break
            if char == "\\" and end + 1 < len(self._text):
                end += 1
                char = self._text[end]
            if (char < " " and char != "\t") or char == "\x7f":
                raise _Refused(f"bad character in quoted-string: '{quoted(char)[1:-1]}'")
            chars.append(char)
            end += 1
        self._at = end + 1
        return "".join(chars)

    def _literal(self) -> str:
        """A domain literal, "[127.0.0.1]"."""
        end = self._text.find("]", self._at)
        if end < 0:
            raise _Refused("unclosed domain-literal")
        inner = self._text[self._at + 1 : end]
        try:
            ipaddress.ip_address(inner)
        except ValueError:
            raise _Refused(f"invalid IP address in domain-literal: {quoted(inner)}") from None
        self._at = end + 1
        return f"[{inner}]"

    def _blanks_and_comments(self) -> None:
        self._blanks()
        while self._next() == "(":
            depth = 0
            while True:
                char = self._next()
                if not char:
                    raise _Refused("misformatted parenthetical comment")
                self._at += 2 if char == "\\" else 1
                depth += (char == "(") - (char == ")")
                if depth == 0:
                    break
            self._blanks()

    def _blanks(self) -> None:
        while self._next() in (" ", "\t"):
            self._at += 1

    def _next(self) -> str:
        """Return the next character without consuming it; "" at the end."""
        return self._text[self._at] if self._at < len(self._text) else ""

    def _skip(self, char: str) -> bool:
        if self._next() != char:
            return False
        self._at += 1
        return True
