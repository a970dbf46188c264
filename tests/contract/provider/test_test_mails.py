"""Test mails: what is sent, with which secret, and which error a failure becomes (spec 5, departures 2-9)."""

from collections.abc import Callable
from email import message_from_bytes, policy

import pytest

from mailward.db.database import Database
from mailward.errors import FailedPrecondition, Internal, InvalidArgument, NotFound
from mailward.ids import ProviderId, UserId
from mailward.message.envelope import Envelope
from mailward.provider.commands import Providers
from mailward.provider.testing import ProviderTests, UnsavedTest
from mailward.secretbox import SecretText
from mailward.smtp.reply import Reply
from mailward.transport.base import RelaySettings, TlsMode
from mailward.transport.outcome import Stage
from mailward.transport.report import Failure, Report
from tests.contract.provider.conftest import Clock
from tests.support.providers import UNKNOWN, http, smtp

EDITOR = UserId("298765432109870001")
CANARY = SecretText("canary-7f3a-horse")
OK = Report((), None, TlsMode.NONE)


class Sent:
    """Stands for the transport: keeps what it was told to send and answers with a report."""

    def __init__(self, report: Report = OK) -> None:
        self.report = report
        self.calls: list[tuple[RelaySettings, Envelope, bytes]] = []

    async def __call__(self, settings: RelaySettings, envelope: Envelope, content: bytes) -> Report:
        self.calls.append((settings, envelope, content))
        return self.report

    @property
    def settings(self) -> RelaySettings:
        return self.calls[-1][0]


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def tests(providers: Providers, sent: Sent, clock: Clock) -> ProviderTests:
    return ProviderTests(providers, sent, new_id=lambda: 227_654_321_098_765_432, now_us=clock)


def unsaved(
    *,
    sender_address: str = "a@example.com",
    sender_name: str = "A",
    host: str = "smtp.example.com:587",
    tls: bool = True,
    user: str = "mailer",
    password: SecretText | None = None,
    id: ProviderId | None = None,
    receiver: str = "to@example.net",
    without_auth: bool = False,
) -> UnsavedTest:
    return UnsavedTest(
        sender_address=sender_address,
        sender_name=sender_name,
        host=host,
        tls=tls,
        user=user,
        password=password,
        id=id or ProviderId(""),
        receiver=receiver,
        without_auth=without_auth,
    )


# --- what is sent


async def test_a_test_sends_one_well_formed_mail(tests: ProviderTests, sent: Sent) -> None:
    await tests.unsaved(unsaved(sender_name='Lee, "Ü"', password=CANARY, receiver="Name <to@example.net>"))

    [(settings, envelope, content)] = sent.calls
    mail = message_from_bytes(content, policy=policy.default)
    assert envelope == Envelope("a@example.com", ("to@example.net",))
    assert (mail["From"].addresses[0].display_name, mail["From"].addresses[0].addr_spec) == (
        'Lee, "Ü"',
        "a@example.com",
    )
    assert (mail["Subject"], mail["Cc"], mail["Return-Path"]) == ("Test email", None, None)
    assert mail["Message-ID"] and mail["Date"] and "test message" in mail.get_content()
    assert (settings.user, settings.password, settings.tls, settings.port) == ("mailer", CANARY, TlsMode.AUTO, 587)


@pytest.mark.parametrize(
    ("receiver", "address"),
    [
        ("to@example.net", "to@example.net"),
        (" <to@example.net> ", "to@example.net"),
        ('"Lee, Ann" <to@example.net>', "to@example.net"),
        ("to@example.net (a comment)", "to@example.net"),
        ("group: to@example.net;", "to@example.net"),
        ('"a b"@example.net', '"a b"@example.net'),
        ('Ann <"["@example.net>', '"["@example.net'),
    ],
)
async def test_of_a_receiver_only_the_address_is_told(
    tests: ProviderTests, sent: Sent, receiver: str, address: str
) -> None:
    await tests.unsaved(unsaved(password=CANARY, receiver=receiver))

    assert sent.calls[0][1].recipients == (address,)


async def test_a_stored_provider_is_tested_as_it_is_stored_active_or_not(
    tests: ProviderTests, providers: Providers, sent: Sent
) -> None:
    added = await providers.add_smtp(smtp(sender_address=" no-reply@example.com "), CANARY, EDITOR)

    await tests.stored(added.id, "to@example.net")

    settings, envelope, content = sent.calls[0]
    assert envelope.reverse_path == "no-reply@example.com"
    assert (settings.host, settings.user, settings.password) == ("smtp.example.com", "mailer", CANARY)
    assert b"help@example.com" not in content


async def test_a_stored_provider_without_a_password_is_tested_without_auth(
    tests: ProviderTests, providers: Providers, sent: Sent
) -> None:
    """It ends the original's whole process (departure 3)."""
    added = await providers.add_smtp(smtp(), None, EDITOR)

    await tests.stored(added.id, "to@example.net")
    await tests.unsaved(unsaved(id=added.id, host="elsewhere:25"))

    assert [(call[0].user, call[0].password) for call in sent.calls] == [("", None)] * 2


# --- the stored secret


async def test_a_stored_password_is_used_where_it_is_stored_for(
    tests: ProviderTests, providers: Providers, sent: Sent
) -> None:
    added = await providers.add_smtp(smtp(), CANARY, EDITOR)

    await tests.unsaved(unsaved(id=added.id, host=" smtp.example.com:587 "))

    assert sent.settings.password == CANARY


@pytest.mark.parametrize(
    "test",
    [
        unsaved(id=UNKNOWN, host="evil.example.com:587"),
        unsaved(id=UNKNOWN, host="smtp.example.com:25"),
        unsaved(id=UNKNOWN, tls=False),
        unsaved(id=UNKNOWN, user="other"),
        unsaved(id=UNKNOWN, user=""),
        unsaved(id=UNKNOWN, user="", host="noport"),
    ],
)
async def test_a_stored_password_goes_nowhere_else(
    database: Database, clock: Clock, sent: Sent, new_providers: Callable[..., Providers], test: UnsavedTest
) -> None:
    """The original sends it to whatever host the request names (departure 4)."""
    providers = new_providers(database)
    tests = ProviderTests(providers, sent, new_id=lambda: 1, now_us=clock)
    added = await providers.add_smtp(smtp(), CANARY, EDITOR)
    fields = {name: getattr(test, name) for name in UnsavedTest.__dataclass_fields__} | {"id": added.id}

    with pytest.raises(FailedPrecondition) as caught:
        await tests.unsaved(UnsavedTest(**fields))

    assert caught.value.id == "MAILWARD-SecretBound"
    assert CANARY.reveal() not in str(caught.value)
    assert sent.calls == []


async def test_a_stored_test_does_not_follow_a_change_without_the_password(
    tests: ProviderTests, providers: Providers, sent: Sent
) -> None:
    added = await providers.add_smtp(smtp(), CANARY, EDITOR)
    await providers.change_smtp(added.id, smtp(host="evil.example.com:587"), None, EDITOR)

    with pytest.raises(FailedPrecondition, match="MAILWARD-SecretBound"):
        await tests.stored(added.id, "to@example.net")
    report = await tests.report(added.id, "to@example.net")

    assert report.failure is not None and report.failure.code == "secret_bound"
    assert sent.calls == []


async def test_a_password_in_the_request_may_go_anywhere(
    tests: ProviderTests, providers: Providers, sent: Sent
) -> None:
    added = await providers.add_smtp(smtp(), CANARY, EDITOR)

    await tests.unsaved(unsaved(id=added.id, host="other:25", user="x", password=SecretText("given")))

    assert sent.settings.password == SecretText("given")


async def test_a_request_that_says_none_needs_no_password(tests: ProviderTests, sent: Sent) -> None:
    await tests.unsaved(unsaved(without_auth=True))

    assert sent.settings.password is None


# --- what is refused before anything is sent


async def test_without_password_and_id_there_is_nothing_to_test_with(tests: ProviderTests) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await tests.unsaved(unsaved())
    assert str(caught.value) == "Password for test not found (SMTP-p9kj)"


async def test_an_id_must_name_an_smtp_provider(tests: ProviderTests, providers: Providers) -> None:
    hook = await providers.add_http(http(), EDITOR)

    for id in (UNKNOWN, hook.id):
        with pytest.raises(NotFound, match=r"SMTP configuration not found \(SMTP-p9cc\)"):
            await tests.unsaved(unsaved(id=id))
        with pytest.raises(NotFound, match=r"SMTP configuration not found \(SMTP-99klw\)"):
            await tests.stored(id, "to@example.net")


async def test_empty_ids_and_receivers_have_errors_of_their_own(tests: ProviderTests, providers: Providers) -> None:
    added = await providers.add_smtp(smtp(), CANARY, EDITOR)

    with pytest.raises(InvalidArgument, match="SMTP-99oki"):
        await tests.stored(ProviderId(""), "to@example.net")
    with pytest.raises(InvalidArgument, match="SMTP-99yth"):
        await tests.stored(added.id, "")
    with pytest.raises(InvalidArgument, match="SMTP-p9uy"):
        await tests.unsaved(unsaved(password=CANARY, receiver=""))


@pytest.mark.parametrize(
    ("test", "id"),
    [
        (unsaved(password=CANARY, host="localhost"), "EMAIL-spR56"),
        (unsaved(password=CANARY, host="a:b:25"), "EMAIL-spR56"),
        (unsaved(password=CANARY, host="localhost:"), "EMAIL-skwos"),
        (unsaved(password=CANARY, host="localhost:99999", tls=False), "EMAIL-skwos"),
        (unsaved(password=CANARY, sender_address="not an address"), "EMAIL-s3is3"),
        (unsaved(password=CANARY, sender_name="A\r\nBcc: b@example.com"), "EMAIL-s3is3"),
    ],
)
async def test_what_cannot_be_sent_fails_like_the_stage_that_would_refuse_it(
    tests: ProviderTests, sent: Sent, test: UnsavedTest, id: str
) -> None:
    with pytest.raises(Internal) as caught:
        await tests.unsaved(test)

    assert caught.value.id == id
    assert sent.calls == []


# --- how a failed conversation surfaces

REFUSED = Reply(550, "5.7.1", "refused")
DATA_REFUSED = Reply(554, "", "data refused")


@pytest.mark.parametrize(
    ("stage", "tls_wanted", "tls", "reply", "id"),
    [
        (Stage.RESOLVE, False, TlsMode.NONE, None, "EMAIL-skwos"),
        (Stage.RESOLVE, True, TlsMode.STARTTLS, None, "EMAIL-sl39s"),
        (Stage.CONNECT, False, TlsMode.NONE, None, "EMAIL-skwos"),
        (Stage.CONNECT, True, TlsMode.STARTTLS, None, "EMAIL-sl39s"),
        (Stage.BANNER, False, TlsMode.NONE, REFUSED, "EMAIL-skwos"),
        (Stage.BANNER, False, TlsMode.NONE, None, "EMAIL-skwos"),
        (Stage.BANNER, True, TlsMode.STARTTLS, REFUSED, "EMAIL-skwos"),
        (Stage.BANNER, True, TlsMode.STARTTLS, None, "EMAIL-sl39s"),
        (Stage.TLS, True, TlsMode.IMPLICIT, None, "EMAIL-sl39s"),
        (Stage.TLS, True, TlsMode.STARTTLS, None, "EMAIL-guvsQ"),
        (Stage.EHLO, False, TlsMode.NONE, REFUSED, "EMAIL-skwi4"),
        (Stage.AUTH, False, TlsMode.NONE, REFUSED, "EMAIL-s9kfs"),
        (Stage.AUTH, False, TlsMode.NONE, None, "EMAIL-s9kfs"),
        (Stage.MAIL, False, TlsMode.NONE, REFUSED, "EMAIL-s3is3"),
        (Stage.RCPT, False, TlsMode.NONE, REFUSED, "EMAIL-s4is4"),
        (Stage.DATA, False, TlsMode.NONE, None, ""),
    ],
)
async def test_each_stage_has_the_originals_id_and_our_own_words(
    tests: ProviderTests, sent: Sent, stage: Stage, tls_wanted: bool, tls: TlsMode, reply: Reply | None, id: str
) -> None:
    sent.report = Report(
        (), Failure(stage, "any", reply, str(reply or "nothing came"), "This is the cause.", "This is the fix."), tls
    )

    with pytest.raises(Internal) as caught:
        await tests.unsaved(unsaved(password=CANARY, tls=tls_wanted))

    assert caught.value.id == id
    for words in ("failed", "This is the cause.", "This is the fix.", "550 5.7.1 refused" if reply else "nothing came"):
        assert words in caught.value.message
    assert CANARY.reveal() not in caught.value.message


@pytest.mark.parametrize("stage", [Stage.DATA, Stage.FINAL])
async def test_a_reply_to_the_content_is_handed_on_as_it_is(tests: ProviderTests, sent: Sent, stage: Stage) -> None:
    """The original wraps it in nothing: code UNKNOWN, and the reply as the message."""
    sent.report = Report((), Failure(stage, "any", DATA_REFUSED, str(DATA_REFUSED), "c", "f"), TlsMode.NONE)

    with pytest.raises(Internal) as caught:
        await tests.unsaved(unsaved(password=CANARY))

    assert (caught.value.id, caught.value.message) == ("", "554 data refused")
