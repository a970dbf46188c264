"""Which texts are host:port, as the original was seen to take and refuse them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailward.provider.hostport import port_number, split


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mail.example.com:25", ("mail.example.com", "25")),
        ("[::1]:25", ("::1", "25")),
        ("[fe80::1%eth0]:587", ("fe80::1%eth0", "587")),
        (":25", ("", "25")),
        (":", ("", "")),
        ("host:", ("host", "")),
        ("host:smtp", ("host", "smtp")),
        ("host:99999", ("host", "99999")),
        ("[]:25", ("", "25")),
        ("ü:25", ("ü", "25")),
    ],
)
def test_host_and_port_are_split_and_not_judged(text: str, expected: tuple[str, str]) -> None:
    assert split(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "::1:25",
        "a:b:25",
        "[::1]",
        "[::1:25",
        "[::1]x:25",
        "[::1]25",
        "[::1]:25:25",
        "smtp://host:25",
        "[a]]:25",
        "a]:25",
        "a[:25",
        "host:2]5",
        "[[::1]]:25",
    ],
)
def test_what_is_not_host_and_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"colon|port|brackets"):
        split(text)


@given(st.text(st.characters(exclude_characters="[]:"), max_size=20), st.text(st.characters(exclude_characters="[]:")))
def test_a_name_and_a_port_joined_by_a_colon_always_split(host: str, port: str) -> None:
    assert split(f"{host}:{port}") == (host, port)


@pytest.mark.parametrize(
    ("port", "number"),
    [
        ("25", 25),
        ("65535", 65535),
        ("0025", 25),
        ("smtp", 25),
        ("Submission", 587),
        ("submissions", 465),
        ("0", None),
        ("65536", None),
        ("99999", None),
        ("1" * 5000, None),
        ("", None),
        ("-1", None),
        ("+25", None),
        ("２５", None),
        ("nonsense", None),
    ],
)
def test_a_port_is_a_number_in_range_or_a_known_service(port: str, number: int | None) -> None:
    assert port_number(port) == number
