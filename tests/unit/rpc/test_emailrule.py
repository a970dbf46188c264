"""Which texts are one mailbox, and the causes clients know."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailward.rpc.emailrule import email_fault, quoted


@pytest.mark.parametrize(
    "text",
    [
        "a@b",
        "Name <a@b.c>",
        "<a@b.c>",
        "a@b.c (comment)",
        '"a b"@b.c',
        "ü@b.c",
        "a@1.2.3.4",
        " a@b.c ",
        "g: a@b.c;",
        '"Doe, John" <a@b.c>',
        "a@" + "b" * 63 + ".com",
        "a" * 64 + "@b.com",
    ],
)
def test_one_mailbox_is_accepted_in_each_of_its_forms(text: str) -> None:
    assert email_fault(text) is None


NO_ADDRESS = "mail: missing '@' or angle-addr"
NO_WORD = "mail: missing word in phrase: mail: invalid string"
ODD = "hostname parts can only contain alphanumeric characters or hyphens, got "


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("x", NO_ADDRESS),
        ("a@", NO_ADDRESS),
        (".a@b.c", NO_ADDRESS),
        ("a..b@c.d", NO_ADDRESS),
        ("a@b.c.", NO_ADDRESS),
        ("a@b..com", NO_ADDRESS),
        ("a@@b.c", NO_ADDRESS),
        ("@b", NO_WORD),
        ("(c)a@b.c", NO_WORD),
        ("a b@c", "mail: no angle-addr"),
        ("a@example.com, b@example.com", 'mail: expected single address, got ", b@example.com"'),
        ("A <a@b.c", "mail: unclosed angle-addr"),
        ("g:;", "mail: empty group"),
        ("g: a@b, c@d;", "mail: group with multiple addresses"),
        ("a@b (c", "mail: misformatted parenthetical comment"),
        ("a@b_c.com", ODD + '"_"'),
        ("a@[127.0.0.1]", ODD + '"["'),
        ("a@bücher.example", ODD + '"ü"'),
        ("a@-b.com", "hostname parts cannot begin with hyphens"),
        ("a@b-.com", "hostname parts cannot end with hyphens"),
        ("a@" + "b" * 64 + ".com", "hostname part must be non-empty and cannot exceed 63 characters"),
        ("a" * 65 + "@b.com", "email address local phrase cannot exceed 64 characters"),
        ("a@" + ".".join(["b" * 60] * 5), "email addresses cannot exceed 254 characters"),
    ],
)
def test_the_cause_says_what_is_wrong(text: str, cause: str) -> None:
    assert email_fault(text) == cause


@given(st.text(alphabet=st.sampled_from('ab.@<>()[]:;,"\\ \tü\0-'), max_size=30))
def test_any_text_gets_an_answer(text: str) -> None:
    email_fault(text)


def test_quoting_shows_what_cannot_be_printed() -> None:
    assert quoted('a"\\\n\x00\x85\u200b\U000e0001ü') == '"a\\"\\\\\\n\\x00\\u0085\\u200b\\U000e0001ü"'
