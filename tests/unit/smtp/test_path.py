"""Paths and parameters of MAIL and RCPT."""

import pytest

from mailward.smtp.path import PathError, parse_path


@pytest.mark.parametrize(
    ("argument", "path"),
    [
        ("<a@example.com>", "a@example.com"),
        (" <a@example.com>", "a@example.com"),
        ("<>", ""),
        ("<Postmaster>", "Postmaster"),
        ("<a.b+c=d@sub.example.com>", "a.b+c=d@sub.example.com"),
        ('<"a b"@example.com>', '"a b"@example.com'),
        (r'<"a\"b>"@example.com>', r'"a\"b>"@example.com'),
        ("<a@[192.0.2.1]>", "a@[192.0.2.1]"),
        ("<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]"),
        ("<@one.example,@two.example:a@example.com>", "a@example.com"),
        ("<jürgen@exämple.com>", "jürgen@exämple.com"),
        ("<a@localhost>", "a@localhost"),
    ],
)
def test_a_path_of_the_rfc_is_taken(argument: str, path: str) -> None:
    assert parse_path(argument) == (path, {})


@pytest.mark.parametrize(
    "argument",
    [
        "",
        "a@example.com",
        "<a@example.com",
        "a@example.com>",
        "<a>",
        "<@example.com>",
        "<a@>",
        "<a@-x.com>",
        "<a@x-.com>",
        "<a@x..com>",
        "<a@x.com.>",
        "<.a@example.com>",
        "<a.@example.com>",
        "<a..b@example.com>",
        "<a b@example.com>",
        '<"a@example.com>',
        "<a@example.com>SIZE=1",
        "<a@b@example.com>",
        "<a@exam ple.com>",
        "<" + "x" * 65 + "@example.com>",
        "<a@" + ".".join(["x" * 60] * 5) + ">",
        "<a@example.com> SIZE==",
        "<a@example.com> SIZE=1 size=2",
        "<a@example.com> =1",
    ],
)
def test_anything_else_is_refused(argument: str) -> None:
    with pytest.raises(PathError):
        parse_path(argument)


def test_parameters_have_upper_case_names() -> None:
    assert parse_path("<> size=10  SMTPUTF8 BODY=8BITMIME") == ("", {"SIZE": "10", "SMTPUTF8": "", "BODY": "8BITMIME"})
