"""Whom a request is from when proxies passed it on, and how far their word counts."""

from ipaddress import ip_network

import pytest

from mailward.rpc.forwarded import Field, Proxies
from mailward.rpc.http import Headers, Request, Response

TRUSTED = tuple(ip_network(network) for network in ("10.0.0.0/8", "127.0.0.0/8", "fd00::/8"))
NEAR = "10.0.0.1:4711"


def client(peer: str, *said: str, field: Field = "x-forwarded-for", name: str = "") -> str:
    headers = Headers.of([("host", "a"), *[(name or field, value) for value in said]])
    return Proxies(TRUSTED, field).client(Request("GET", b"/", "/", "", headers, peer=peer))


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:4711", "203.0.113.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("198.51.100.1, 203.0.113.7", "203.0.113.7"),
        ("127.0.0.1, 203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, 10.0.0.9", "203.0.113.7"),
        ("198.51.100.1,203.0.113.7 , 10.0.0.9,fd00::1", "203.0.113.7"),
        ("10.0.0.8, 10.0.0.9", "10.0.0.8"),
        ("unknown", NEAR),
        ("203.0.113.7, unknown", NEAR),
        ("203.0.113.7, unknown, 10.0.0.9", "10.0.0.9"),
        ("127.0.0.1", NEAR),
        ("", NEAR),
        (",", NEAR),
        ("203.0.113.7" + " " * 500, "203.0.113.7"),
        ("1" * 100_000, NEAR),
    ],
)
def test_the_last_hop_that_is_no_trusted_proxy_is_the_client(said: str, wanted: str) -> None:
    """What stands before it was written by the client, who may write anything."""
    assert client(NEAR, said) == wanted


@pytest.mark.parametrize("peer", ["203.0.113.9:1", "[2001:db8::9]:1", ""])
def test_who_is_no_trusted_proxy_speaks_for_nobody(peer: str) -> None:
    assert client(peer, "198.51.100.1") == peer


def test_a_proxy_that_adds_a_field_of_its_own_is_believed_and_not_what_came_before() -> None:
    assert client(NEAR, "198.51.100.1", "203.0.113.7") == "203.0.113.7"


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("for=203.0.113.7", "203.0.113.7"),
        ('proto=https; For="[2001:db8::7]:4711";by=10.0.0.1', "2001:db8::7"),
        ('for="127.0.0.1", for=203.0.113.7;proto=http', "203.0.113.7"),
        ('for=", for=203.0.113.7', "203.0.113.7"),
        ("for=203.0.113.7, for=10.0.0.9", "203.0.113.7"),
        ("for=_hidden", NEAR),
        # What a client had its proxy quote is no element.
        ('proto=http;host="a,for=192.0.2.9";for=203.0.113.7', "203.0.113.7"),
        ('for=203.0.113.7;host="a,for=192.0.2.9"', "203.0.113.7"),
        ('host="x;for=192.0.2.9";for=203.0.113.7', "203.0.113.7"),
        (r'for=203.0.113.7;host="a,for=192.0.2.9;x=\"b"', "203.0.113.7"),
        ('x=", for=203.0.113.7;host=";for=192.0.2.9"', "203.0.113.7"),
        ("for=203.0.113.7;for=192.0.2.9", NEAR),
        ("by=203.0.113.7", NEAR),
        ("xfor=203.0.113.7", NEAR),
    ],
)
def test_the_standard_field_is_read_as_well(said: str, wanted: str) -> None:
    assert client(NEAR, said, field="forwarded") == wanted


@pytest.mark.parametrize(("field", "name"), [("x-forwarded-for", "forwarded"), ("forwarded", "x-forwarded-for")])
def test_only_the_field_that_the_proxy_writes_counts(field: Field, name: str) -> None:
    """It passes on the other one as the client wrote it."""
    assert client(NEAR, "for=203.0.113.7", field=field, name=name) == NEAR


def test_where_nobody_is_trusted_nothing_is_looked_at() -> None:
    def handler(request: Request) -> Response:
        return Response(200)

    assert Proxies((), "x-forwarded-for").before(handler) is handler
