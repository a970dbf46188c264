"""Mailboxes: what is understood, what is refused, how they are written."""

from email import policy
from email.header import decode_header, make_header
from email.headerregistry import Address
from email.parser import BytesParser
from email.utils import parseaddr
from inspect import signature
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailward.errors import InvalidArgument
from mailward.message.address import CONTROLS, Mailbox, domain_to_ascii, parse_addr_spec, parse_mailbox


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ann@example.com", Mailbox("", "ann", "example.com")),
        ("  <ann@example.com> ", Mailbox("", "ann", "example.com")),
        ("Ann Lee <ann@example.com>", Mailbox("Ann Lee", "ann", "example.com")),
        ("Ann   Lee <ann@example.com>", Mailbox("Ann Lee", "ann", "example.com")),
        ('"Lee, Ann" <ann@example.com>', Mailbox("Lee, Ann", "ann", "example.com")),
        (r'"Ann \"A\" Lee" <ann@example.com>', Mailbox('Ann "A" Lee', "ann", "example.com")),
        ("Dr. Jürgen Müller <j@example.com>", Mailbox("Dr. Jürgen Müller", "j", "example.com")),
        ("=?utf-8?q?J=C3=BCrgen?= <j@example.com>", Mailbox("Jürgen", "j", "example.com")),
        ("=?utf-8?q?a_?= =?utf-8?b?w7w=?= <j@example.com>", Mailbox("a ü", "j", "example.com")),
        ('"ann lee"@example.com', Mailbox("", "ann lee", "example.com")),
        ('"ann"@example.com', Mailbox("", "ann", "example.com")),
        ("ann@EXAMPLE.com", Mailbox("", "ann", "example.com")),
        ("Ann@example.com", Mailbox("", "Ann", "example.com")),
        ("ann@exämple.com", Mailbox("", "ann", "xn--exmple-cua.com")),
        ("ann@EXÄMPLE。com", Mailbox("", "ann", "xn--exmple-cua.com")),
        ("ann@faß.de", Mailbox("", "ann", "xn--fa-hia.de")),
        ("ännchen@example.com", Mailbox("", "ännchen", "example.com")),
        ("ann@[192.0.2.1]", Mailbox("", "ann", "[192.0.2.1]")),
        ("ann@[ipv6:2001:DB8:0::1]", Mailbox("", "ann", "[IPv6:2001:db8::1]")),
        ("root@localhost", Mailbox("", "root", "localhost")),
        ("a+b/c=d@example.com", Mailbox("", "a+b/c=d", "example.com")),
    ],
)
def test_a_mailbox_is_understood(text: str, expected: Mailbox) -> None:
    """Names are decoded, domains become lower-case A-labels, local parts keep their case."""
    assert parse_mailbox(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "ann",
        "@example.com",
        "ann@",
        "<>",
        "Ann <>",
        "ann@example.com, bob@example.com",
        "Friends: ann@example.com, bob@example.com;",
        "undisclosed-recipients:;",
        "Ann (sales) <ann@example.com>",
        "ann@example.com (Ann)",
        "Lee, Ann <ann@example.com>",
        "ann@evil.example <ann@example.com>",
        "Ann <ann@example.com> <bob@example.com>",
        "Ann <ann@example.com",
        "ann@example.com>",
        '"Ann <ann@example.com>',
        "<@relay.example:ann@example.com>",
        "a..b@example.com",
        ".a@example.com",
        "a b@example.com",
        "a\u00a0b@example.com",
        "ann@example..com",
        "ann@-example.com",
        "ann@exam_ple.com",
        "ann@example.com.",
        "ann@exa mple.com",
        "ann@☕.example",
        "ann@xn--a.example",
        "ann@[192.0.2]",
        "ann@[192.0.2.1",
        "ann@[example.com]",
    ],
)
def test_what_is_not_one_mailbox_is_refused_with_its_pointer(text: str) -> None:
    """Lists, groups, comments and broken addresses are a caller's mistake, not something to guess at."""
    with pytest.raises(InvalidArgument) as refused:
        parse_mailbox(text, pointer="/to/3")

    assert refused.value.pointer == "/to/3"
    assert refused.value.id.startswith("MESSAGE-")


@pytest.mark.parametrize(
    "text",
    [
        "ann@example.com\r\nBcc: eve@example.com",
        "Ann\r\nBcc: eve@example.com <ann@example.com>",
        "Ann\nX: y <ann@example.com>",
        "Ann\0 <ann@example.com>",
        '"a\rb" <ann@example.com>',
        '"a\nb"@example.com',
        "Ann\u2028 <ann@example.com>",
        "Ann\x85 <ann@example.com>",
        "Ann\ud800 <ann@example.com>",
        "=?utf-8?q?a=0D=0ABcc:_eve?= <ann@example.com>",
        "=?utf-8?b?YQpi?= <ann@example.com>",
        '"=?utf-8?q?a=00b?=" <ann@example.com>',
        "=?unknown?q?a=0Ab?= <ann@example.com>",
        "=?utf-7?q?a+AAo-b?= <ann@example.com>",
        "=?utf-16-be?b?AAo=?= <ann@example.com>",
    ],
)
def test_a_control_character_is_refused_also_when_it_is_encoded(text: str) -> None:
    """What a recipient's program would decode to a new header line must not pass."""
    with pytest.raises(InvalidArgument):
        parse_mailbox(text)


@pytest.mark.parametrize(
    ("address", "is_good"),
    [
        ("a" * 64 + "@example.com", True),
        ("a" * 65 + "@example.com", False),
        ("ü" * 32 + "@example.com", True),
        ("ü" * 33 + "@example.com", False),
        ("a@" + "b" * 63 + ".com", True),
        ("a@" + "b" * 64 + ".com", False),
        ("a@" + ".".join(["b" * 49] * 5) + ".cd", True),  # 254 octets
        ("aa@" + ".".join(["b" * 49] * 5) + ".c", True),
        ("aaa@" + ".".join(["b" * 49] * 5) + ".c", False),
        ("a@" + ".".join(["b" * 63] * 4), False),
        ("a@" + "ü" * 60 + ".de", False),  # as A-label longer than 63
    ],
)
def test_an_address_has_the_limits_of_smtp(address: str, is_good: bool) -> None:
    """RFC 5321 4.5.3.1: 64 for the local part, 63 a label, 254 together, in octets."""
    if is_good:
        assert parse_addr_spec(address).local == address.rpartition("@")[0]
    else:
        with pytest.raises(InvalidArgument):
            parse_addr_spec(address)


def test_a_display_name_has_a_limit() -> None:
    """It is a name, not a message."""
    with pytest.raises(InvalidArgument):
        parse_mailbox(f'"{"a" * 257}" <ann@example.com>')


def test_only_a_local_part_needs_smtputf8() -> None:
    """A domain has its A-labels, a name its encoded-words."""
    assert not parse_mailbox("Jürgen <j@exämple.com>").needs_smtputf8
    assert parse_mailbox("jürgen@example.com").needs_smtputf8


def test_a_domain_in_a_labels_stays_as_it_is() -> None:
    """The second conversion changes nothing."""
    assert domain_to_ascii(domain_to_ascii("bücher.example")) == "xn--bcher-kva.example"


#: Since its security fixes parseaddr makes nothing of some quoted local parts, unless it is told not to mind.
_LAX: dict[str, Any] = {"strict": False} if "strict" in signature(parseaddr).parameters else {}
_NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=120).map(
    lambda name: " ".join(name.split(" ")).strip()
)
_LOCALS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)


@given(name=_NAMES, local=_LOCALS)
def test_the_recipients_parser_reads_the_mailbox_that_was_given(name: str, local: str) -> None:
    """Whatever the name and the local part, the standard library reads them back from the header."""
    mailbox = Mailbox(name.strip(), local, "example.com")
    header = b"To: " + str(mailbox).encode() + b"\r\n\r\n"

    message = BytesParser(policy=policy.default).parsebytes(header)

    (address,) = message["To"].addresses
    assert isinstance(address, Address)
    assert address.username == local
    assert address.domain == "example.com"
    # Not address.display_name: before Python 3.13 it has a space between two encoded-words (CPython issue 92081).
    shown, _ = parseaddr(str(mailbox).replace("\r\n", ""), **_LAX)
    assert str(make_header(decode_header(shown))).split() == name.split()
    assert max(map(len, header.split(b"\r\n"))) <= 998


@given(name=_NAMES, local=_LOCALS)
@example(name="=?0?Q??=", local="ada")
def test_our_parser_reads_what_we_wrote(name: str, local: str) -> None:
    """Writing and parsing are inverse, but for spaces around a name."""
    mailbox = Mailbox(name.strip(), local, "example.com")
    written = str(mailbox).replace("\r\n", "")

    again = parse_mailbox(written)

    assert (again.local, again.display_name.split()) == (local, mailbox.display_name.split())


@given(st.text(max_size=60), st.text(max_size=60))
def test_nothing_injects_a_header_line_through_a_mailbox(name: str, address: str) -> None:
    """For any text at all: refused, or written as one field whose continuation lines start with a space."""
    for text in (f"{name} <{address}>", f'"{name}" <{address}>', address, f"{name}@example.com"):
        try:
            mailbox = parse_mailbox(text)
        except InvalidArgument:
            continue
        assert "\r" not in mailbox.addr_spec and "\n" not in mailbox.addr_spec
        assert not CONTROLS.search(mailbox.display_name)
        for line in str(mailbox).split("\r\n")[1:]:
            assert line.startswith(" ") and line.strip()
        assert CONTROLS.search(str(mailbox).replace("\r\n ", "")) is None
