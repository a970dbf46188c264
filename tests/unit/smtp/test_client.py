"""The client's machine: requests in, bytes out; bytes in, answers out."""

from base64 import b64encode
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailward.smtp.auth import without_secrets
from mailward.smtp.client import Answer, ClientConnection, Command
from mailward.smtp.reply import ProtocolError, Reply

PIPELINING = b"250-mx\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 5000\r\n"
PLAIN = b"250 mx\r\n"


def greeted(ehlo: bytes = PIPELINING) -> ClientConnection:
    connection = ClientConnection("gateway.example")
    connection.receive(b"220 mx\r\n")
    connection.ehlo()
    connection.data_to_send()
    connection.receive(ehlo)
    return connection


def begin(connection: ClientConnection, *recipients: str) -> bytes:
    connection.begin("a@example.com", recipients or ("b@example.net",), size=10, eight_bit=False, smtputf8=False)
    return connection.data_to_send()


def test_ehlo_learns_the_extensions_and_falls_back_to_helo() -> None:
    connection = ClientConnection("gateway.example")
    assert connection.awaited is Command.BANNER
    assert connection.receive(b"220 mx\r\n") == Answer(Command.BANNER, Reply(220, "", "mx"))
    connection.ehlo()
    assert connection.data_to_send() == b"EHLO gateway.example\r\n"
    assert connection.receive(b"502 what\r\n") is None
    assert connection.data_to_send() == b"HELO gateway.example\r\n"
    assert connection.receive(b"250 mx\r\n") == Answer(Command.HELO, Reply(250, "", "mx"))
    assert connection.extensions == {}
    old = greeted(b"250-mx\r\n250-size 12\r\n250-AUTH LOGIN\r\n250 AUTH=PLAIN\r\n")
    assert (old.size_limit, old.offers) == (12, frozenset({"LOGIN", "PLAIN"}))


def test_an_envelope_is_sent_at_once_where_pipelining_is_offered() -> None:
    assert begin(greeted(), "b@example.net", "c@example.net") == (
        b"MAIL FROM:<a@example.com> SIZE=10\r\nRCPT TO:<b@example.net>\r\nRCPT TO:<c@example.net>\r\nDATA\r\n"
    )


def test_an_envelope_is_sent_line_by_line_where_it_is_not() -> None:
    connection = greeted(PLAIN)

    assert begin(connection) == b"MAIL FROM:<a@example.com>\r\n"
    assert connection.receive(b"250 ok\r\n") is None
    assert connection.data_to_send() == b"RCPT TO:<b@example.net>\r\n"
    assert connection.receive(b"250 ok\r\n") is None
    assert connection.data_to_send() == b"DATA\r\n"
    assert connection.receive(b"354 go\r\n") is not None
    assert connection.transaction is not None
    assert connection.transaction.wants_content


@given(st.lists(st.integers(0, 80), max_size=20))
def test_replies_are_taken_alike_wherever_their_bytes_are_cut(cuts: list[int]) -> None:
    data = b"250 ok\r\n250-b\r\n250 ok\r\n550 5.1.1 unknown\r\n354 go\r\n"
    connection = greeted()
    begin(connection, "b@example.net", "c@example.net")
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]

    answers = [answer for a, b in pairwise(bounds) if (answer := connection.receive(data[a:b])) is not None]

    assert answers == [Answer(Command.DATA, Reply(354, "", "go"))]
    assert connection.transaction is not None
    assert connection.transaction.recipients == [Reply(250, "", "b ok"), Reply(550, "5.1.1", "unknown")]


def test_plain_is_preferred_to_login_and_login_follows_its_prompts() -> None:
    plain = greeted(b"250-mx\r\n250 AUTH LOGIN PLAIN\r\n")
    plain.authenticate("user", "secret")
    assert plain.data_to_send() == b"AUTH PLAIN AHVzZXIAc2VjcmV0\r\n"

    login = greeted(b"250-mx\r\n250 AUTH LOGIN\r\n")
    login.authenticate("user", "secret")
    sent = [login.data_to_send()]
    for reply in (b"334 VXNlcm5hbWU6\r\n", b"334 UGFzc3dvcmQ6\r\n"):
        assert login.receive(reply) is None
        sent.append(login.data_to_send())
    assert sent == [b"AUTH LOGIN\r\n", b"dXNlcg==\r\n", b"c2VjcmV0\r\n"]
    assert login.receive(b"235 ok\r\n") == Answer(Command.AUTH, Reply(235, "", "ok"))


def test_a_long_plain_response_gets_a_line_of_its_own() -> None:
    """RFC 4954 4."""
    connection = greeted(b"250-mx\r\n250 AUTH PLAIN\r\n")
    connection.authenticate("user", "x" * 600)

    assert connection.data_to_send() == b"AUTH PLAIN\r\n"
    connection.receive(b"334 \r\n")
    assert len(connection.data_to_send()) > 600


@pytest.mark.parametrize(
    ("offers", "line"),
    [
        (b"XOAUTH2 PLAIN", b"AUTH XOAUTH2 " + b64encode(b"user=a=,b\1auth=Bearer t\1\1")),
        (
            b"XOAUTH2 OAUTHBEARER",
            b"AUTH OAUTHBEARER " + b64encode(b"n,a=a=3D=2Cb,\1host=mx\1port=587\1auth=Bearer t\1\1"),
        ),
    ],
)
def test_oauthbearer_is_preferred_to_xoauth2(offers: bytes, line: bytes) -> None:
    connection = greeted(b"250-mx\r\n250 AUTH %b\r\n" % offers)
    connection.authenticate_by_token("a=,b", "t", "mx", 587)

    assert connection.data_to_send() == line + b"\r\n"
    assert connection.receive(b"235 ok\r\n") == Answer(Command.AUTH, Reply(235, "", "ok"))
    with pytest.raises(ValueError, match="neither"):
        greeted(b"250-mx\r\n250 AUTH PLAIN\r\n").authenticate_by_token("a", "t", "mx", 587)


@pytest.mark.parametrize(("mechanism", "taken"), [(b"XOAUTH2", b"\r\n"), (b"OAUTHBEARER", b"AQ==\r\n")])
@pytest.mark.parametrize(
    ("challenge", "words"),
    [
        (b64encode(b'{"status":"401","schemes":"Bearer"}'), "401"),
        (b64encode(b'{"status":"invalid_token","scope":"s"}'), "invalid_token, scope s"),
        (b64encode(b"[]"), ""),
        (b"no JSON", ""),
    ],
)
def test_the_challenge_that_refuses_a_token_is_read_and_answered(
    mechanism: bytes, taken: bytes, challenge: bytes, words: str
) -> None:
    connection = greeted(b"250-mx\r\n250 AUTH %b\r\n" % mechanism)
    connection.authenticate_by_token("a", "t" * 600, "mx", 587)
    assert connection.data_to_send() == b"AUTH %b\r\n" % mechanism
    connection.receive(b"334 \r\n")
    assert len(connection.data_to_send()) > 600

    assert connection.receive(b"334 %b\r\n" % challenge) is None
    assert connection.data_to_send() == taken
    assert connection.receive(b"535 5.7.8 no\r\n") == Answer(Command.AUTH, Reply(535, "5.7.8", "no"))
    assert connection.token_refusal == words


def test_a_challenge_too_many_is_answered_by_canceling() -> None:
    connection = greeted(b"250-mx\r\n250 AUTH PLAIN\r\n")
    connection.authenticate("user", "secret")
    connection.data_to_send()
    connection.receive(b"334 more\r\n")

    assert connection.data_to_send() == b"*\r\n"
    assert connection.receive(b"501 canceled\r\n") == Answer(Command.AUTH, Reply(501, "", "canceled"))


def test_data_accepted_after_mail_was_refused_breaks_the_dialogue() -> None:
    """A lone dot would then be a message: an empty one."""
    connection = greeted()
    begin(connection)

    with pytest.raises(ProtocolError):
        connection.receive(b"550 no\r\n250 ok\r\n354 go\r\n")
    assert connection.is_spent


def test_a_transaction_left_open_is_reset_with_the_next_envelope() -> None:
    connection = greeted()
    begin(connection)
    connection.receive(b"250 ok\r\n550 no\r\n554 nobody\r\n")

    assert begin(connection).startswith(b"RSET\r\nMAIL FROM:")
    connection.receive(b"250 reset\r\n250 ok\r\n250 ok\r\n354 go\r\n")
    connection.finish()
    connection.receive(b"250 kept\r\n")
    connection.data_to_send()

    assert begin(connection).startswith(b"MAIL FROM:")


def test_without_pipelining_mail_waits_for_the_reset() -> None:
    connection = greeted(PLAIN)
    begin(connection)
    connection.receive(b"250 ok\r\n")
    connection.receive(b"550 no\r\n")
    connection.data_to_send()

    assert begin(connection) == b"RSET\r\n"
    connection.receive(b"250 reset\r\n")
    assert connection.data_to_send() == b"MAIL FROM:<a@example.com>\r\n"


def test_a_reply_that_nothing_asked_for_breaks_the_dialogue() -> None:
    with pytest.raises(ProtocolError):
        greeted().receive(b"250 surprise\r\n")


@pytest.mark.parametrize("replies", [b"354 what\r\n", b"250 ok\r\n250 ok\r\n250 what\r\n"])
def test_a_reply_of_the_wrong_kind_breaks_the_dialogue(replies: bytes) -> None:
    connection = greeted()
    begin(connection)

    with pytest.raises(ProtocolError):
        connection.receive(replies)


@pytest.mark.parametrize("address", ["a\r\nDATA", "a\nb", "a\rb", "\ud800"])
def test_an_address_that_would_break_a_line_is_never_sent(address: str) -> None:
    connection = greeted()

    with pytest.raises(ValueError):
        begin(connection, address)
    assert connection.data_to_send() == b""
    assert connection.awaited is None


def test_what_a_server_repeats_of_a_login_is_hidden_in_each_form_it_travelled_in() -> None:
    connection = greeted(b"250-mx\r\n250 AUTH PLAIN\r\n")
    connection.authenticate("ada", "s3cret")
    for secret in ("s3cret", "AGFkYQBzM2NyZXQ=", "czNjcmV0"):
        assert without_secrets(f"535 no {secret}!", connection.secrets_sent) == "535 no ***!"
    assert without_secrets("authentication failed", connection.secrets_sent) == "authentication failed"
