"""The server's machine: bytes in, events and bytes out."""

import base64
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailward.smtp.auth import Credentials
from mailward.smtp.events import Closed, Event, MessageReceived, StartTls
from mailward.smtp.reply import Reply
from mailward.smtp.server import ServerConfig, ServerConnection

CONFIG = ServerConfig(hostname="mx.test", max_size_bytes=2000, max_recipients=3, max_errors=5)
ENVELOPE = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n"
QUEUED = Reply(250, "2.0.0", "queued")


def greeted(config: ServerConfig = CONFIG, **arguments: bool) -> ServerConnection:
    connection = ServerConnection(config, **arguments)  # type: ignore[arg-type]
    connection.receive(b"EHLO client.example\r\n")
    connection.data_to_send()
    return connection


def say(connection: ServerConnection, data: bytes) -> list[int]:
    """Return the codes answered, of the last lines of replies."""
    connection.receive(data)
    lines = connection.data_to_send().decode().splitlines()
    return [int(line[:3]) for line in lines if line[3:4] != "-"]


def run(connection: ServerConnection, pieces: list[bytes]) -> tuple[list[Event], bytes]:
    """Feed `pieces`, accept everything, return all events and all that was sent."""
    events, sent = [], b""
    for piece in pieces:
        pending = connection.receive(piece)
        while pending:
            events += pending
            sent += connection.data_to_send()
            if isinstance(pending[0], StartTls):
                connection.tls_started()
                pending = []
            else:
                pending = connection.accept(QUEUED) if connection.is_waiting else []
        sent += connection.data_to_send()
    return events, sent


def test_a_message_comes_whole_and_unstuffed() -> None:
    connection = greeted()

    assert say(connection, ENVELOPE) == [250, 250, 354]
    events = connection.receive(b"Subject: x\r\n\r\n..dot\r\n.\r\n")

    content = b"Subject: x\r\n\r\n.dot\r\n"
    assert events == [MessageReceived("a@example.com", ("b@example.net",), content, smtputf8=False)]
    assert connection.data_to_send() == b""  # Nothing is answered before the application has answered.
    connection.accept(QUEUED)
    assert connection.data_to_send() == b"250 2.0.0 queued\r\n"


def test_ehlo_announces_what_is_configured() -> None:
    config = ServerConfig(hostname="mx.test", max_size_bytes=99, starttls=True, auth=True)
    plain, encrypted = ServerConnection(config), ServerConnection(config, tls=True)
    for connection in (plain, encrypted):
        connection.receive(b"EHLO x\r\n")

    assert plain.data_to_send().decode().split("\r\n")[1:-1] == [
        "250-mx.test",
        "250-PIPELINING",
        "250-SIZE 99",
        "250-8BITMIME",
        "250-SMTPUTF8",
        "250-STARTTLS",
        "250 ENHANCEDSTATUSCODES",
    ]
    offered = encrypted.data_to_send()
    assert b"AUTH PLAIN LOGIN" in offered
    assert b"STARTTLS" not in offered


DIALOGUE = (
    b"EHLO client.example\r\nNOOP\r\nnonsense\r\nAUTH PLAIN "
    + base64.b64encode(b"\0user\0secret")
    + b"\r\n"
    + ENVELOPE
    + b"one\r\n..\r\n.\r\n"
    + ENVELOPE
    + b".\r\nMAIL FROM:<> SIZE=5\r\nRCPT TO:<x>\r\nRSET\r\n"
    + ENVELOPE
    + b"bare\nLF\r\n.\r\n"
    + ENVELOPE
    + b"large\r\n" * 1000
    + b".\r\nVRFY x\r\nQUIT\r\nNOOP\r\n"
)
DIALOGUE_CONFIG = ServerConfig(hostname="mx.test", max_size_bytes=2000, auth=True, auth_without_tls=True)


@settings(max_examples=60)
@given(st.lists(st.integers(0, len(DIALOGUE)), max_size=40))
def test_a_dialogue_goes_alike_wherever_its_bytes_are_cut(cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(DIALOGUE)]
    pieces = [DIALOGUE[a:b] for a, b in pairwise(bounds)]

    assert run(ServerConnection(DIALOGUE_CONFIG), pieces) == run(ServerConnection(DIALOGUE_CONFIG), [DIALOGUE])


def test_a_dialogue_goes_alike_byte_by_byte() -> None:
    events, sent = run(ServerConnection(DIALOGUE_CONFIG), [DIALOGUE[i : i + 1] for i in range(len(DIALOGUE))])

    assert (events, sent) == run(ServerConnection(DIALOGUE_CONFIG), [DIALOGUE])
    assert [type(event) for event in events] == [Credentials, MessageReceived, MessageReceived, Closed]
    assert b"\r\n550 5.6.11" in sent
    assert b"\r\n552 5.3.4" in sent


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n"])
def test_only_crlf_dot_crlf_ends_a_message(end: bytes) -> None:
    """Anything laxer lets a second message be smuggled past whoever reads it strictly."""
    connection = greeted()
    say(connection, ENVELOPE)
    smuggled = b"hello" + end + b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\nevil"

    assert connection.receive(smuggled) == []
    assert say(connection, b"\r\n.\r\n") == [550]
    assert say(connection, b"NOOP\r\n") == [250]


def test_a_bare_lf_in_a_command_ends_the_dialogue() -> None:
    connection = greeted()

    [event] = connection.receive(b"NOOP\nMAIL FROM:<a@example.com>\r\n")

    assert isinstance(event, Closed)
    assert connection.data_to_send().startswith(b"500 5.5.2")
    assert connection.receive(b"NOOP\r\n") == []
    assert connection.data_to_send() == b""


BROKEN = [b"NO\rOP\r\n", b"NOOP\0\r\n", b"NOOP \xff\r\r\n", b"\r\n", b"BDAT 5\r\n", b"NOOP" + b"x" * 5000 + b"\r\n"]


@pytest.mark.parametrize("line", BROKEN)
def test_a_broken_command_is_refused_and_the_dialogue_goes_on(line: bytes) -> None:
    connection = greeted()

    assert say(connection, line) == [500]
    assert say(connection, b"NOOP\r\n") == [250]


@pytest.mark.parametrize(
    ("lines", "codes"),
    [
        (b"RCPT TO:<a@example.com>\r\n", [503]),
        (b"DATA\r\n", [503]),
        (b"MAIL FROM:<a@example.com>\r\nMAIL FROM:<a@example.com>\r\n", [250, 503]),
        (b"MAIL FROM:<a@example.com>\r\nDATA\r\n", [250, 554]),
        (b"MAIL FROM:<>\r\nRCPT TO:<>\r\n", [250, 501]),
        (b"MAIL FROM:a@example.com\r\n", [501]),
        (b"MAIL TO:<a@example.com>\r\n", [501]),
        (b"MAIL FROM:<a@example.com> SIZE=2001\r\n", [552]),
        (b"MAIL FROM:<a@example.com> SIZE=x\r\n", [501]),
        (b"MAIL FROM:<a@example.com> BODY=BINARYMIME\r\n", [501]),
        (b"MAIL FROM:<a@example.com> BODY=8bitmime SIZE=10\r\n", [250]),
        (b"MAIL FROM:<a@example.com> RET=HDRS\r\n", [555]),
        (b"MAIL FROM:<a@example.com> AUTH=<>\r\n", [555]),
        ("MAIL FROM:<jürgen@example.com>\r\n".encode(), [553]),
        ("MAIL FROM:<jürgen@example.com> SMTPUTF8\r\nRCPT TO:<ü@example.com>\r\n".encode(), [250, 250]),
        (b"MAIL FROM:<\xff@example.com> SMTPUTF8\r\n", [501]),
        (b"MAIL FROM:<>\r\nRCPT TO:<a@example.com> NOTIFY=NEVER\r\n", [250, 555]),
        (b"MAIL FROM:<>\r\n" + b"RCPT TO:<a@example.com>\r\n" * 4, [250, 250, 250, 250, 452]),
        (b"STARTTLS\r\n", [502]),
        (b"AUTH PLAIN\r\n", [502]),
        (b"VRFY a\r\nEXPN a\r\nHELP\r\nRSET\r\n", [252, 502, 214, 250]),
        (b"EHLO\r\n", [501]),
    ],
)
def test_each_command_has_its_answer(lines: bytes, codes: list[int]) -> None:
    assert say(greeted(), lines) == codes


def test_mail_before_ehlo_and_without_a_required_login_is_refused() -> None:
    assert say(ServerConnection(CONFIG), b"MAIL FROM:<>\r\n") == [220, 503]
    config = ServerConfig(hostname="mx.test", auth=True, auth_required=True)
    assert say(greeted(config), b"MAIL FROM:<>\r\n") == [530]


def test_policies_judge_sender_and_recipients() -> None:
    connection = ServerConnection(
        CONFIG,
        on_mail=lambda path, parameters: None if path else Reply(550, "5.7.1", "no bounces"),
        on_rcpt=lambda path, parameters: Reply(421, "4.3.2", "bye") if path == "c@example.com" else None,
    )
    connection.receive(b"HELO x\r\n")
    connection.data_to_send()

    assert say(connection, b"MAIL FROM:<>\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\n") == [
        550,
        250,
        250,
    ]
    assert say(connection, b"RCPT TO:<c@example.com>\r\nNOOP\r\n") == [421]
    assert connection.is_closed


def test_too_many_errors_end_the_dialogue() -> None:
    connection = greeted()

    assert say(connection, b"nonsense\r\n" * 20) == [500] * 6 + [421]
    assert connection.is_closed


def test_a_browser_is_sent_away_at_once() -> None:
    assert say(greeted(), b"POST / HTTP/1.1\r\nHost: x\r\n") == [421]


def test_commands_behind_the_final_dot_wait_for_the_answer() -> None:
    connection = greeted()
    say(connection, ENVELOPE)

    connection.receive(b"x\r\n.\r\nNOOP\r\n")
    connection.receive(b"NOOP\r\n")

    assert connection.is_waiting
    assert connection.data_to_send() == b""
    connection.reject(Reply(451, "4.3.0", "disk full"))
    assert connection.data_to_send() == b"451 4.3.0 disk full\r\n250 2.0.0 ok\r\n250 2.0.0 ok\r\n"


def test_starttls_forgets_what_was_said_and_drops_what_was_pipelined() -> None:
    """RFC 3207 4.2: else clear text could be injected into the encrypted dialogue."""
    config = ServerConfig(hostname="mx.test", starttls=True, auth=True)
    connection = greeted(config)
    say(connection, b"MAIL FROM:<a@example.com>\r\n")

    assert connection.receive(b"STARTTLS\r\nRCPT TO:<injected@example.com>\r\n") == [StartTls()]
    connection.receive(b"NOOP\r\n")
    assert connection.data_to_send() == b"220 2.0.0 ready to start TLS\r\n"
    connection.tls_started()

    assert connection.data_to_send() == b""
    assert say(connection, b"RCPT TO:<a@example.com>\r\nMAIL FROM:<a@example.com>\r\n") == [503, 503]
    assert say(connection, b"EHLO x\r\nSTARTTLS\r\n") == [250, 503]


LOGIN_DIALOGUES = [
    [b"AUTH PLAIN AHVzZXIAc2VjcmV0\r\n"],
    [b"auth plain\r\n", b"AHVzZXIAc2VjcmV0\r\n"],
    [b"AUTH LOGIN\r\n", b"dXNlcg==\r\n", b"c2VjcmV0\r\n"],
    [b"AUTH LOGIN dXNlcg==\r\n", b"c2VjcmV0\r\n"],
]


@pytest.mark.parametrize("lines", LOGIN_DIALOGUES)
def test_credentials_come_by_plain_and_login(lines: list[bytes]) -> None:
    connection = greeted(ServerConfig(hostname="mx.test", auth=True), tls=True)

    events = [event for line in lines for event in connection.receive(line)]

    [credentials] = events
    assert isinstance(credentials, Credentials)
    assert (credentials.authcid, credentials.password) == ("user", "secret")
    assert "secret" not in repr(credentials)
    connection.data_to_send()
    connection.accept()
    assert connection.data_to_send().startswith(b"235 2.7.0")
    assert connection.user == "user"
    assert say(connection, b"AUTH PLAIN\r\n") == [503]


@pytest.mark.parametrize(
    ("lines", "codes"),
    [
        (b"AUTH PLAIN\r\n*\r\n", [334, 501]),
        (b"AUTH PLAIN !!!\r\n", [501]),
        (b"AUTH PLAIN =\r\n", [501]),
        (b"AUTH LOGIN\r\n\r\n", [334, 501]),
        (b"AUTH CRAM-MD5\r\n", [504]),
        (b"AUTH\r\n", [504]),
        (b"MAIL FROM:<>\r\nAUTH PLAIN\r\n", [250, 503]),
        (b"AUTH PLAIN\r\n" + b"A" * 20000 + b"\r\nNOOP\r\n", [334, 500, 250]),
    ],
)
def test_a_login_that_is_broken_off_leaves_the_dialogue_in_order(lines: bytes, codes: list[int]) -> None:
    assert say(greeted(ServerConfig(hostname="mx.test", auth=True), tls=True), lines) == codes


def test_a_password_is_not_asked_for_in_clear_text() -> None:
    config = ServerConfig(hostname="mx.test", auth=True, starttls=True)

    assert say(greeted(config), b"AUTH PLAIN AHVzZXIAc2VjcmV0\r\n") == [538]


def test_refused_credentials_may_be_tried_again_but_not_for_ever() -> None:
    connection = greeted(ServerConfig(hostname="mx.test", auth=True, max_errors=2), tls=True)
    answers = b""
    for _ in range(3):
        connection.receive(b"AUTH PLAIN AHVzZXIAc2VjcmV0\r\n")
        connection.reject(Reply(535, "5.7.8", "no"))
        answers += connection.data_to_send()

    assert answers.count(b"535 5.7.8") == 3
    assert answers.endswith(b"421 4.7.0 too many errors\r\n")
    assert connection.is_closed


def test_content_far_beyond_the_limit_ends_the_dialogue() -> None:
    connection = greeted()
    say(connection, ENVELOPE)
    events: list[Event] = []
    for _ in range(40):
        events += connection.receive(b"x" * 65536)

    assert [type(event) for event in events] == [Closed]
    assert connection.data_to_send().startswith(b"552 5.3.4")


def test_a_line_over_998_octets_is_refused_unless_allowed() -> None:
    """RFC 5322 2.1.1: the next hop may break it."""
    long_line = b"x" * 999 + b"\r\n.\r\n"
    refusing, taking = greeted(), greeted(ServerConfig(hostname="mx.test", max_line_bytes=0))
    say(refusing, ENVELOPE)
    say(taking, ENVELOPE)

    assert say(refusing, long_line) == [554]
    assert len(taking.receive(long_line)) == 1
