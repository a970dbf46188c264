"""Logins by token: real token servers, a mail server that checks what they issued, and what is told when it fails."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from mailward.errors import Unavailable
from mailward.ids import ProviderId
from mailward.message.envelope import Envelope
from mailward.secretbox import SecretText
from mailward.transport import egress, smtp
from mailward.transport import tokens as tokens_module
from mailward.transport.base import OAuthSettings, RelaySettings, TlsMode
from mailward.transport.outcome import Accepted, Deferred, Fault, Stage
from mailward.transport.pool import SmtpTransport
from mailward.transport.tokens import Tokens
from mailward.transport.trouble import Trouble
from tests.support.certificates import make_certificates
from tests.support.oauth import REFRESH_TOKEN, SECRET, USER, TokenServer, TokenSink
from tests.support.waiting import until
from tests.support.ways import LONG, deliver

ENVELOPE = Envelope("from@example.com", ("to@example.net",))
CONTENT = b"Subject: hello\r\n\r\nhello\r\n"
START_S = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.s = START_S

    def __call__(self) -> float:
        return self.s


class Store:
    """Keeps a refresh token, like provider.refresh_tokens."""

    def __init__(self) -> None:
        self.token = SecretText(REFRESH_TOKEN)
        self.is_down = False
        self.saves = 0
        self.is_taken = False  #: somebody has the turn

    async def take_turn(self, id: ProviderId) -> bool:
        was_taken, self.is_taken = self.is_taken, True
        return not was_taken

    async def end_turn(self, id: ProviderId) -> None:
        self.is_taken = False

    async def read(self, id: ProviderId) -> SecretText | None:
        return self.token

    async def replace(self, id: ProviderId, old: SecretText, new: SecretText) -> None:
        self.saves += 1
        if self.is_down:
            raise Unavailable("TEST-down", "the store is down")
        if self.token == old:
            self.token = new


@pytest.fixture
def server() -> Iterator[TokenServer]:
    with TokenServer() as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def tokens(clock: Clock, store: Store) -> Tokens:
    return Tokens(store, clock=clock)


def settings(server: TokenServer, sink: str = "127.0.0.1:1", **oauth: Any) -> RelaySettings:
    host, _, port = sink.partition(":")
    values: dict[str, Any] = {
        "grant": "client_credentials",
        "token_endpoint": server.url,
        "client_id": "client",
        "client_secret": SecretText(SECRET),
    }
    return RelaySettings(
        provider_id=ProviderId("1"),
        host=host,
        port=int(port),
        tls=TlsMode.NONE,
        user=USER,
        ehlo_name="gateway.example",
        oauth=OAuthSettings(**(values | oauth)),
        deadlines=LONG,
    )


async def nothing() -> None:
    pass


@asynccontextmanager
async def kept_fresh(tokens: Tokens, relay: RelaySettings) -> AsyncIterator[None]:
    tokens.start(lambda: [relay])
    try:
        yield
    finally:
        await tokens.stop(5.0)


# --- the login


@pytest.mark.parametrize(
    ("offered", "used"),
    [(("XOAUTH2",), "XOAUTH2"), (("OAUTHBEARER",), "OAUTHBEARER"), (("OAUTHBEARER", "XOAUTH2"), "OAUTHBEARER")],
)
async def test_a_login_goes_by_what_the_server_offers(
    offered: tuple[str, ...], used: str, server: TokenServer, tokens: Tokens
) -> None:
    with TokenSink(server, mechanisms=offered) as sink:
        transport = SmtpTransport(settings(server, sink.address), tokens=tokens)
        [outcome] = await deliver(transport, ENVELOPE, CONTENT, nothing)
        await transport.aclose()

    assert isinstance(outcome, Accepted)
    [(mechanism, _, taken)] = sink.logins
    assert (mechanism, taken) == (used, True)


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
async def test_why_a_token_is_refused_is_read_and_no_token_is_shown(
    mechanism: str, server: TokenServer, tokens: Tokens
) -> None:
    with TokenSink(server, mechanisms=(mechanism,)) as sink:
        report = await smtp.test(
            replace(settings(server, sink.address), user="somebody@example.com"), ENVELOPE, CONTENT, tokens=tokens
        )

    failure = report.failure
    assert failure is not None
    assert (failure.stage, failure.code) == (Stage.AUTH, "token_rejected")
    assert failure.words == "535 5.7.8 Authentication credentials invalid (invalid_token, scope mail.send)"
    assert "mailbox" in failure.fix
    [(_, token, _)] = sink.logins
    assert token not in repr(report)


async def test_a_server_without_login_by_token_says_so(server: TokenServer, tokens: Tokens) -> None:
    with TokenSink(server, mechanisms=("SCRAM",)) as sink:
        report = await smtp.test(settings(server, sink.address), ENVELOPE, CONTENT, tokens=tokens)

    assert report.failure is not None
    assert (report.failure.stage, report.failure.code) == (Stage.AUTH, "token_not_offered")
    assert "XOAUTH2" in report.failure.cause


async def test_a_token_that_the_mail_server_no_longer_takes_is_replaced_once(
    server: TokenServer, tokens: Tokens, clock: Clock
) -> None:
    with TokenSink(server) as sink:
        transport = SmtpTransport(replace(settings(server, sink.address), messages_per_connection=1), tokens=tokens)
        await deliver(transport, ENVELOPE, CONTENT, nothing)
        server.good.clear()  # revoked
        clock.s += 60
        [outcome] = await deliver(transport, ENVELOPE, CONTENT, nothing)
        assert isinstance(outcome, Accepted)
        assert [taken for _, _, taken in sink.logins] == [True, False, True]

        server.good.clear()
        [outcome] = await deliver(transport, ENVELOPE, CONTENT, nothing)
        await transport.aclose()

    # A token of this moment is refused for another reason than its age.
    assert isinstance(outcome, Deferred) and (outcome.stage, outcome.fault) == (Stage.AUTH, Fault.PROVIDER)
    assert len(server.forms) == 2


# --- grants


async def test_a_refresh_token_that_the_server_replaces_is_stored_and_used_from_then_on(
    server: TokenServer, tokens: Tokens, store: Store, clock: Clock
) -> None:
    server.rotates = True
    relay = settings(server, grant="refresh_token", client_secret=None, scopes=("a", "b"))

    for _ in range(3):
        await tokens.get(relay)
        clock.s += 3600

    assert [form["refresh_token"] for form in server.forms] == [REFRESH_TOKEN, "refresh-1", "refresh-2"]
    assert server.forms[0]["scope"] == "a b" and "client_secret" not in server.forms[0]
    assert store.token == SecretText("refresh-3")


async def test_a_refresh_token_that_cannot_be_stored_is_used_all_the_same_and_stored_later(
    server: TokenServer, tokens: Tokens, store: Store, clock: Clock
) -> None:
    server.rotates, store.is_down = True, True
    relay = settings(server, grant="refresh_token", client_secret=None)
    await tokens.get(relay)
    clock.s += 3600
    await tokens.get(relay)
    assert store.token == SecretText(REFRESH_TOKEN)

    store.is_down = False
    async with kept_fresh(tokens, relay):
        await until(lambda: store.token == SecretText("refresh-2"))


async def test_two_processes_never_use_a_refresh_token_twice(
    server: TokenServer, tokens: Tokens, store: Store, clock: Clock
) -> None:
    """A server that sees one again may take it for stolen, and revoke all that came of it."""
    server.rotates, server.delay_s = True, 0.05
    relay = settings(server, grant="refresh_token", client_secret=None)
    both = [tokens, Tokens(store, clock=clock)]

    for _ in range(3):
        await asyncio.gather(*(one.get(relay) for one in both))
        clock.s += 3600

    used = [form["refresh_token"] for form in server.forms]
    assert used == [REFRESH_TOKEN, *(f"refresh-{n}" for n in range(1, 6))]
    assert store.token == SecretText("refresh-6")


async def test_a_refresh_token_that_could_not_be_stored_is_not_used_twice_by_one_process_either(
    server: TokenServer, tokens: Tokens, store: Store, clock: Clock
) -> None:
    server.rotates, store.is_down = True, True
    before, after = (settings(server, grant="refresh_token", client_secret=None, scopes=(scope,)) for scope in "ab")
    await tokens.get(before)
    clock.s += 3600
    server.delay_s = 0.05

    await asyncio.gather(tokens.get(before), tokens.get(after))

    assert [form["refresh_token"] for form in server.forms] == [REFRESH_TOKEN, "refresh-1", "refresh-2"]


async def test_a_turn_that_does_not_come_is_waited_for_no_longer_than_it_helps(
    server: TokenServer, tokens: Tokens, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens_module, "_TURN_PATIENCE_S", 0.1)
    store.is_taken = True  # by a process that died

    with pytest.raises(Trouble, match="somebody else") as caught:
        await tokens.get(settings(server, grant="refresh_token", client_secret=None))

    assert (caught.value.code, server.forms) == ("token_unavailable", [])


async def test_a_client_secret_goes_into_the_head_where_that_is_set(server: TokenServer, tokens: Tokens) -> None:
    """Both parts encoded as in a form, so that a colon in them is none between them (RFC 6749 2.3.1)."""
    server.secret = "s:cr%t +ü"
    relay = settings(
        server, client_id="me:too", client_secret=SecretText(server.secret), client_auth_method="client_secret_basic"
    )

    await tokens.get(relay)

    assert server.heads == [("me:too", server.secret)]
    assert server.forms == [{"grant_type": "client_credentials"}]


# --- when a token is fetched


async def test_all_who_wait_share_one_fetch(server: TokenServer, tokens: Tokens, clock: Clock) -> None:
    server.delay_s = 0.1
    relay = settings(server)
    waiting = [asyncio.ensure_future(tokens.get(relay)) for _ in range(50)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # Whoever gives up stops nobody else.

    got = await asyncio.gather(*waiting[1:])

    assert len(set(map(id, got))) == len(server.forms) == 1
    clock.s += 3500
    assert await tokens.get(relay) is got[0]
    clock.s += 100
    assert await tokens.get(relay) is not got[0]


async def test_an_idle_gateway_has_a_token_before_it_needs_one_and_a_new_one_before_it_expires(
    server: TokenServer, tokens: Tokens, clock: Clock
) -> None:
    relay = settings(server)
    async with kept_fresh(tokens, relay):
        await until(lambda: len(server.forms) == 1)
        await tokens.get(relay)  # The answer is here too, before the clock moves.
        clock.s += 3400
        await until(lambda: len(server.forms) == 2)


async def test_the_old_token_serves_while_no_new_one_is_to_be_had(
    server: TokenServer, tokens: Tokens, clock: Clock
) -> None:
    relay = settings(server)
    old = await tokens.get(relay)
    server.answer = (503, b"busy")
    clock.s += 3400
    async with kept_fresh(tokens, relay):
        await until(lambda: len(server.forms) == 2)
        assert await tokens.get(relay) is old

    clock.s += 200
    with pytest.raises(Trouble) as caught:
        await tokens.get(relay)
    assert (caught.value.stage, caught.value.code, caught.value.fault) == (
        Stage.AUTH,
        "token_unavailable",
        Fault.PROVIDER,
    )


async def test_a_failure_is_everybodys_answer_for_some_seconds_but_a_tests(
    server: TokenServer, tokens: Tokens, clock: Clock
) -> None:
    relay = settings(server, client_secret=SecretText("wrong"))
    for _ in range(3):
        with pytest.raises(Trouble, match="AADSTS7000215"):
            await tokens.get(relay)
    assert len(server.forms) == 1

    with pytest.raises(Trouble):
        await tokens.get(relay, fresh=True)
    clock.s += 6
    with pytest.raises(Trouble):
        await tokens.get(relay)
    assert len(server.forms) == 3
    assert await tokens.get(settings(server, revision=1))  # The operator has corrected it.


# --- what is told


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        ((401, None), "token_refused", "invalid_client: AADSTS7000215: Invalid client secret provided."),
        ((503, b"{}"), "token_unavailable", "it answered 503"),
        ((404, b"<html>"), "token_unusable", "it answered 404, without a token"),
        ((200, b"hello"), "token_unusable", "it answered 200, without a token"),
        ((302, b""), "token_unusable", "it answered 302, without a token"),
    ],
)
async def test_a_test_shows_the_token_servers_words_as_a_failed_login(
    answer: tuple[int, bytes | None], code: str, words: str, server: TokenServer, tokens: Tokens
) -> None:
    if answer[1] is not None:
        server.answer = (answer[0], answer[1])
    relay = settings(server, client_secret=SecretText("wrong"))
    with TokenSink(server) as sink:
        report = await smtp.test(
            replace(relay, host="127.0.0.1", port=int(sink.address.rpartition(":")[2])),
            ENVELOPE,
            CONTENT,
            tokens=tokens,
        )

    failure = report.failure
    assert failure is not None and [step.stage for step in report.steps if not step.ok] == [Stage.AUTH]
    assert (failure.stage, failure.code, failure.reply) == (Stage.AUTH, code, None)
    assert failure.words == f"no token from 127.0.0.1: {words}"
    assert ("its value" in failure.cause) == (answer[0] == 401)
    assert sink.logins == []


async def test_tokens_come_over_tls_that_the_operators_ca_vouches_for(
    tokens: Tokens, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pem = make_certificates(tmp_path_factory.mktemp("certificates"))
    with TokenServer(tls=pem.server_context()) as server:
        with pytest.raises(Trouble, match="certificate") as caught:
            await tokens.get(settings(server))
        assert caught.value.code == "token_unavailable" and server.forms == []

        relay = replace(settings(server, revision=1), ca_file=str(pem.ca), pins=("ab" * 32,))
        assert await tokens.get(relay)


async def test_a_secret_leaves_neither_in_clear_text_nor_against_the_egress_policy(
    server: TokenServer, store: Store
) -> None:
    denying = Tokens(store, check=lambda address, port: "not allowed")
    with pytest.raises(Trouble, match="not allowed"):
        await denying.get(settings(server))

    with pytest.raises(Trouble, match="loopback only"):
        await Tokens(store).get(settings(server, token_endpoint="http://192.0.2.1/token"))
    assert server.forms == []


async def test_no_token_is_asked_for_where_it_would_travel_in_clear_text(
    server: TokenServer, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress, "is_loopback", lambda address: False)
    with TokenSink(server) as sink:
        report = await smtp.test(settings(server, sink.address), ENVELOPE, CONTENT, tokens=tokens)

    assert report.failure is not None and report.failure.code == "auth_cleartext_forbidden"
    assert server.forms == []
