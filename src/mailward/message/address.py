"""Mailboxes: parsed, limited, with domains in A-labels, and written for a header (RFC 5322 3.4, RFC 5321 4.1.2)."""

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import idna

from mailward.errors import InvalidArgument
from mailward.message.encoded_words import decode_words, encode_words

MAX_LOCAL_OCTETS = 64  #: RFC 5321 4.5.3.1.1
MAX_DOMAIN_OCTETS = 255  #: RFC 5321 4.5.3.1.2
MAX_ADDRESS_OCTETS = 254  #: a path of 256 (RFC 5321 4.5.3.1.3) less its angle brackets
MAX_NAME_CHARACTERS = 256  #: ours

#: What no header field may hold: controls but tab, line separators, halves of surrogate pairs.
CONTROLS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~-"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_match_plain = re.compile(rf"([{_ATEXT}]+(?:\.[{_ATEXT}]+)*)@({_DOMAIN})").fullmatch
_match_dot_atom = re.compile(rf"[\u00a1-\U0010ffff{_ATEXT}]+(?:\.[\u00a1-\U0010ffff{_ATEXT}]+)*").fullmatch
_match_domain = re.compile(_DOMAIN).fullmatch
_match_quoted = re.compile(r'"((?:[^"\\]|\\.)*)"@(.+)', re.DOTALL).fullmatch
_match_phrase = re.compile(rf"[{_ATEXT}]+(?: [{_ATEXT}]+)*").fullmatch
_NAME_PIECE = re.compile(r'"((?:[^"\\]|\\.)*)"|([^"\\()<>\[\]:;@,\s]+)|(\s+)', re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_NEEDS_ESCAPE = re.compile(r'(["\\])')
_ESCAPED = r"\\\1"
_FOLD = "\r\n "


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Who a message is from or for, e.g. Mailbox("Ann", "ann", "xn--exmple-cua.com"). Made by the parsers below."""

    display_name: str  #: decoded; "" when none was given
    local: str  #: without quotes, e.g. "ann" or "ann lee"; other than ASCII needs SMTPUTF8
    domain: str  #: lower-case A-labels, or an address literal with its brackets

    @property
    def addr_spec(self) -> str:
        """The address as it is sent, the local part quoted where it must be."""
        local = self.local
        return f"{local if _match_dot_atom(local) else _quoted(local)}@{self.domain}"

    @property
    def needs_smtputf8(self) -> bool:
        """Whether a server without SMTPUTF8 cannot take it (RFC 6531)."""
        return not self.local.isascii()

    def __str__(self) -> str:
        """Return the form for a header field; a name that needs several encoded-words holds CRLF and spaces."""
        name = self.display_name
        if not name:
            return self.addr_spec
        if name.isascii() and "=?" not in name:  # What looks like an encoded-word would be decoded.
            return f"{name if _match_phrase(name) else _quoted(name)} <{self.addr_spec}>"
        words = encode_words(name, used=20)
        return f"{words}{' ' if len(words) <= 40 else _FOLD}<{self.addr_spec}>"


def parse_mailbox(text: str, *, pointer: str = "") -> Mailbox:
    """Return the one mailbox in `text`: "a@b", "<a@b>", "Ann <a@b>", or '"Lee, Ann" <a@b>'.

    An encoded-word in the name is decoded first and then checked like the rest. Lists, groups and comments are
    refused: each has a form of its own, or says two things. Raises InvalidArgument.
    """
    plain = _match_plain(text)
    if plain is not None:
        return _mailbox("", plain[1], plain[2], pointer)
    if CONTROLS.search(text):
        raise InvalidArgument("MESSAGE-k3Wd", "an address must not contain control characters", pointer=pointer)
    text = text.strip()
    if not text.endswith(">"):
        return _parse_addr_spec(text, "", pointer)
    name, bracket = _parse_name(text, pointer)
    name = decode_words(name)
    if len(name) > MAX_NAME_CHARACTERS:
        raise InvalidArgument(
            "MESSAGE-p9Ze", f"a display name has at most {MAX_NAME_CHARACTERS} characters", pointer=pointer
        )
    if CONTROLS.search(name):
        raise InvalidArgument("MESSAGE-Vb7q", "a display name must not contain control characters", pointer=pointer)
    return _parse_addr_spec(text[bracket + 1 : -1], name.strip(), pointer)


def parse_addr_spec(text: str, *, pointer: str = "") -> Mailbox:
    """Return the mailbox of a bare address, e.g. of an SMTP path without its brackets. Raises InvalidArgument."""
    plain = _match_plain(text)
    if plain is not None:
        return _mailbox("", plain[1], plain[2], pointer)
    if CONTROLS.search(text):
        raise InvalidArgument("MESSAGE-Gx2n", "an address must not contain control characters", pointer=pointer)
    return _parse_addr_spec(text, "", pointer)


def domain_to_ascii(text: str, *, pointer: str = "") -> str:
    """Return `text` in lower-case A-labels (IDNA 2008 with the UTS 46 mapping), e.g. "xn--exmple-cua.com".

    Raises InvalidArgument for what is no domain, and for what no DNS name can hold.
    """
    try:
        return _to_ascii(text)
    except ValueError as error:
        raise InvalidArgument("MESSAGE-m8Rt", f"{text[:255]!r} is not a domain: {error}", pointer=pointer) from None


@lru_cache(maxsize=4096)
def _to_ascii(text: str) -> str:
    if len(text) > MAX_DOMAIN_OCTETS:
        raise ValueError(f"longer than {MAX_DOMAIN_OCTETS} octets")
    domain = text.lower()
    if not domain.isascii() or "xn--" in domain:
        domain = idna.encode(text, uts46=True, std3_rules=True).decode("ascii")
    if not _match_domain(domain):
        raise ValueError("labels are 1 to 63 letters, digits and hyphens, joined by dots")
    return domain


def _parse_name(text: str, pointer: str) -> tuple[str, int]:
    """Return the display name of `text`, encoded-words still in it, and where its "<" is."""
    pieces: list[str] = []
    position = 0
    while piece := _NAME_PIECE.match(text, position):
        quoted, atom, _space = piece.groups()
        if quoted is not None:
            pieces.append(_QUOTED_PAIR.sub(r"\1", quoted))
        else:
            pieces.append(atom or " ")
        position = piece.end()
    match text[position]:
        case "<":
            return "".join(pieces), position
        case "(" | ")":
            raise InvalidArgument(
                "MESSAGE-c4Jy", "comments are not accepted in an address; quote the name", pointer=pointer
            )
        case "," | ";" | ":" | "@":
            raise InvalidArgument(
                "MESSAGE-r6Lh",
                f"expected one mailbox, found {text[position]!r}; a name that contains it must be quoted",
                pointer=pointer,
            )
        case other:
            raise InvalidArgument("MESSAGE-t5Xo", f"a name that contains {other!r} must be quoted", pointer=pointer)


def _parse_addr_spec(text: str, name: str, pointer: str) -> Mailbox:
    if not text:
        raise InvalidArgument("MESSAGE-y1Qa", "the address is empty", pointer=pointer)
    quoted = _match_quoted(text)
    if quoted is not None:
        local, domain = _QUOTED_PAIR.sub(r"\1", quoted[1]), quoted[2]
    else:
        local, at, domain = text.rpartition("@")
        if not at:
            raise InvalidArgument("MESSAGE-d7Uk", f'{text[:255]!r} has no "@"', pointer=pointer)
        if not _match_dot_atom(local) or any(map(str.isspace, local)):
            raise InvalidArgument(
                "MESSAGE-w2Pf",
                f"the local part {local[:255]!r} is not valid; expected one address, quoted where it has spaces",
                pointer=pointer,
            )
    if domain.startswith("["):
        return _mailbox(name, local, _address_literal(domain, pointer), pointer)
    return _mailbox(name, local, domain_to_ascii(domain, pointer=pointer), pointer)


def _address_literal(text: str, pointer: str) -> str:
    """Return an address literal in its canonical form, e.g. "[192.0.2.1]" or "[IPv6:2001:db8::1]"."""
    inner = text[1:-1]
    try:
        if not text.endswith("]"):
            raise AddressValueError("no closing bracket")
        if inner[:5].lower() == "ipv6:":
            return f"[IPv6:{IPv6Address(inner[5:])}]"
        return f"[{IPv4Address(inner)}]"
    except AddressValueError:
        raise InvalidArgument(
            "MESSAGE-h9Cs", f"{text[:255]!r} is not an address literal such as [192.0.2.1]", pointer=pointer
        ) from None


def _mailbox(name: str, local: str, domain: str, pointer: str) -> Mailbox:
    """Return the mailbox after the limits of RFC 5321 4.5.3.1 are checked; `domain` is ASCII and well-formed."""
    local_octets = len(local) if local.isascii() else len(local.encode())
    if local_octets > MAX_LOCAL_OCTETS:
        raise InvalidArgument(
            "MESSAGE-z3Bv", f"the local part is longer than {MAX_LOCAL_OCTETS} octets", pointer=pointer
        )
    if "xn--" in domain:
        domain = domain_to_ascii(domain, pointer=pointer)
    mailbox = Mailbox(name, local, domain.lower() if domain[0] != "[" else domain)
    # Quoting adds at most two octets and one for each escaped one; only then is it worth writing out.
    if local_octets + len(domain) + 1 > MAX_ADDRESS_OCTETS - 2 - MAX_LOCAL_OCTETS:
        octets = len(mailbox.addr_spec.encode())
        if octets > MAX_ADDRESS_OCTETS:
            raise InvalidArgument(
                "MESSAGE-n5Ei", f"the address is longer than {MAX_ADDRESS_OCTETS} octets", pointer=pointer
            )
    return mailbox


def _quoted(text: str) -> str:
    return f'"{_NEEDS_ESCAPE.sub(_ESCAPED, text)}"'
