"""The rules of an instance's email providers: given events, when a command, then events or an error."""

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailward.errors import FailedPrecondition, InvalidArgument, MailwardError, NotFound
from mailward.ids import ProviderId
from mailward.provider.aggregate import (
    Activate,
    AddHTTP,
    AddSMTP,
    ChangeHTTP,
    ChangePassword,
    ChangeSMTP,
    Command,
    Deactivate,
    Remove,
    SetFailover,
    decide,
)
from mailward.provider.events import (
    Event,
    HTTPConfigAdded,
    HTTPConfigChanged,
    ProviderActivated,
    ProviderDeactivated,
    ProviderRemoved,
    SMTPConfigAdded,
    SMTPConfigChanged,
    SMTPPasswordChanged,
)
from mailward.provider.state import EmailProviders, HTTPConfig, HTTPProvider, SMTPConfig, SMTPProvider, evolve, replay
from tests.support.providers import (
    KEY,
    NEW_KEY,
    NEW_PASSWORD,
    PASSWORD,
    UNKNOWN,
    A,
    B,
    C,
    activated,
    added,
    http,
    http_added,
    smtp,
)

EMPTY = ProviderId("")


def refused(state: EmailProviders, command: Command) -> MailwardError:
    with pytest.raises(MailwardError) as caught:
        decide(state, command)
    return caught.value


# --- add


def test_a_new_provider_is_inactive() -> None:
    state = replay(decide(EmailProviders(), AddSMTP(A, smtp(), PASSWORD)))

    assert state.providers == {A: SMTPProvider(smtp(), PASSWORD)}
    assert state.active is None


def test_adding_says_all_that_was_given() -> None:
    assert decide(EmailProviders(), AddSMTP(A, smtp(), PASSWORD)) == [added(A)]


def test_two_equal_ones_are_two() -> None:
    state = replay([added(A)])

    assert decide(state, AddSMTP(B, smtp(), PASSWORD)) == [added(B)]


def test_adding_trims_host_reply_to_and_description_only() -> None:
    """The original keeps the sender address as sent when adding, and trims it when changing."""
    given = smtp(
        sender_address=" a@example.com ",
        sender_name=" A ",
        host=" mail.example.com:25 ",
        user=" u ",
        reply_to=" r@example.com ",
        description=" d ",
    )

    [event] = decide(EmailProviders(), AddSMTP(A, given))

    assert isinstance(event, SMTPConfigAdded)
    assert (event.sender_address, event.sender_name, event.user) == (" a@example.com ", " A ", " u ")
    assert (event.host, event.reply_to, event.description) == ("mail.example.com:25", "r@example.com", "d")


@pytest.mark.parametrize("blank", [" ", "\t\r\n", "\u00a0", "\u3000", "\u2009", "\u0085", "\u2028"])
def test_a_sender_of_unicode_blanks_is_no_sender(blank: str) -> None:
    error = refused(EmailProviders(), AddSMTP(A, smtp(sender_address=blank)))

    assert isinstance(error, InvalidArgument)
    assert str(error) == "Errors.Invalid.Argument (COMMAND-SAAFpV8VKV)"


@pytest.mark.parametrize("letter", ["\u200b", "\ufeff", "\x1c", "\x1f", "x", "not an address"])
def test_what_is_not_blank_is_a_sender(letter: str) -> None:
    """A zero-width space is no blank, and nobody checks that the sender is an address."""
    assert decide(EmailProviders(), AddSMTP(A, smtp(sender_address=letter)))


@pytest.mark.parametrize("host", ["mail.example.com", "::1:25", "a:b:25", "[::1]", "[::1:25", "smtp://host:25", " "])
def test_a_host_without_its_port_is_refused(host: str) -> None:
    error = refused(EmailProviders(), AddSMTP(A, smtp(host=host)))

    assert isinstance(error, InvalidArgument)
    assert str(error) == "Errors.Invalid.Argument (COMMAND-EvAtufIinh)"


@pytest.mark.parametrize("host", ["[::1]:25", ":25", ":", "host:", "host:smtp", "host:99999", "\u00a0host:25\u3000"])
def test_a_host_is_not_judged_beyond_its_form(host: str) -> None:
    assert decide(EmailProviders(), AddSMTP(A, smtp(host=host)))


def test_the_sender_is_checked_before_the_host() -> None:
    assert refused(EmailProviders(), AddSMTP(A, smtp(sender_address=" ", host="x"))).id == "COMMAND-SAAFpV8VKV"


# --- sender domain


@pytest.mark.parametrize("sender", ["me@example.org", " me@example.org ", "example.org", "a@b@example.org"])
def test_a_sender_of_the_instance_passes_the_policy(sender: str) -> None:
    state = EmailProviders(sender_domains=frozenset({"example.org"}))

    assert decide(state, AddSMTP(A, smtp(sender_address=sender)))


@pytest.mark.parametrize("sender", ["a@example.com", "foreign", "a@EXAMPLE.org", "a@mail.example.org", "a@"])
def test_a_foreign_sender_is_refused_when_the_policy_says_so(sender: str) -> None:
    state = EmailProviders({A: SMTPProvider(smtp(), None)}, sender_domains=frozenset({"example.org"}))

    for command in (AddSMTP(B, smtp(sender_address=sender)), ChangeSMTP(A, smtp(sender_address=sender))):
        error = refused(state, command)
        assert isinstance(error, InvalidArgument)
        assert error.id == "INST-xtWIiR2ZbR"
        assert error.message == "The sender address must be configured as custom domain on the instance."


def test_the_policy_is_asked_after_the_host_and_after_existence() -> None:
    state = EmailProviders(sender_domains=frozenset())

    assert refused(state, AddSMTP(A, smtp(host="noport"))).id == "COMMAND-EvAtufIinh"
    assert refused(state, ChangeSMTP(UNKNOWN, smtp())).id == "COMMAND-j5IDFtt3T1"


def test_http_providers_are_not_asked_for_a_domain() -> None:
    assert decide(EmailProviders(sender_domains=frozenset()), AddHTTP(A, http(), KEY))


# --- change


def test_a_change_says_only_what_changed() -> None:
    state = replay([added(A)])

    assert decide(state, ChangeSMTP(A, smtp(sender_name="Other"))) == [SMTPConfigChanged(id=A, sender_name="Other")]


def test_what_is_left_out_is_cleared() -> None:
    state = replay([added(A)])
    only = SMTPConfig(sender_address="a@example.com", sender_name="A", host="mail.example.com:25")

    state = evolve(state, decide(state, ChangeSMTP(A, only))[0])

    assert state.providers[A] == SMTPProvider(only, PASSWORD)


def test_no_change_is_no_event() -> None:
    assert decide(replay([added(A)]), ChangeSMTP(A, smtp())) == []


def test_blanks_around_are_no_change() -> None:
    blanks = smtp(host=" smtp.example.com:587 ", description="main relay ", sender_address=" no-reply@example.com")

    assert decide(replay([added(A)]), ChangeSMTP(A, blanks)) == []


def test_a_password_is_always_a_change() -> None:
    """Nobody can tell whether it is the same one, and the answer must not tell either."""
    assert decide(replay([added(A)]), ChangeSMTP(A, smtp(), PASSWORD)) == [SMTPConfigChanged(id=A, password=PASSWORD)]


def test_no_password_keeps_the_stored_one() -> None:
    state = replay([added(A)])

    state = evolve(state, decide(state, ChangeSMTP(A, smtp(host="other:25")))[0])

    assert state.providers[A] == SMTPProvider(smtp(host="other:25"), PASSWORD)


def test_a_change_trims_the_sender_too() -> None:
    state = replay([added(A)])

    assert decide(state, ChangeSMTP(A, smtp(sender_address=" b@example.com "))) == [
        SMTPConfigChanged(id=A, sender_address="b@example.com")
    ]


def test_an_smtp_change_of_an_http_provider_is_granted_and_does_nothing() -> None:
    assert decide(replay([http_added(A)]), ChangeSMTP(A, smtp(), PASSWORD)) == []


@pytest.mark.parametrize(
    ("command", "kind", "text"),
    [
        (ChangeSMTP(EMPTY, smtp(sender_address=" ")), InvalidArgument, "ID missing (COMMAND-2JPlSRzuHy)"),
        (
            ChangeSMTP(UNKNOWN, smtp(sender_address=" ", host="x")),
            InvalidArgument,
            "Errors.Invalid.Argument (COMMAND-gyPUXOTA4N)",
        ),
        (ChangeSMTP(UNKNOWN, smtp(host="x")), InvalidArgument, "Errors.Invalid.Argument (COMMAND-kZNVkuL32L)"),
        (ChangeSMTP(UNKNOWN, smtp()), NotFound, "SMTP configuration not found (COMMAND-j5IDFtt3T1)"),
    ],
)
def test_a_change_is_checked_in_this_order(command: Command, kind: type[MailwardError], text: str) -> None:
    error = refused(EmailProviders(), command)

    assert (type(error), str(error)) == (kind, text)


# --- password


def test_the_password_of_the_active_provider_changes() -> None:
    """The original answers 200 and changes nothing; here it is used from the next attempt on (departure 1)."""
    state = replay([added(A), activated(A)])

    events = decide(state, ChangePassword(A, NEW_PASSWORD))

    assert events == [SMTPPasswordChanged(A, NEW_PASSWORD)]
    assert replay(events, state).providers[A] == SMTPProvider(smtp(), NEW_PASSWORD)


def test_an_empty_password_erases() -> None:
    state = replay([added(A), activated(A)])

    state = replay(decide(state, ChangePassword(A, None)), state)

    assert state.providers[A] == SMTPProvider(smtp(), None)


def test_the_password_call_on_an_http_provider_does_nothing() -> None:
    assert decide(replay([http_added(A), activated(A)]), ChangePassword(A, NEW_PASSWORD)) == []


@pytest.mark.parametrize(
    ("id", "text"),
    [
        (EMPTY, "ID missing (COMMAND-BCkAf7LcJA)"),
        (UNKNOWN, "SMTP configuration not found (COMMAND-rDHzqjGuKQ)"),
        (A, "SMTP configuration not found (COMMAND-rDHzqjGuKQ)"),
    ],
)
def test_the_password_call_finds_active_providers_only(id: ProviderId, text: str) -> None:
    state = replay([added(A), added(B), activated(B)])

    assert str(refused(state, ChangePassword(id, NEW_PASSWORD))) == text


# --- HTTP providers


@pytest.mark.parametrize("endpoint", ["https://hook.example.com/mail", "not a url", " "])
def test_an_endpoint_is_neither_trimmed_nor_parsed(endpoint: str) -> None:
    assert decide(EmailProviders(), AddHTTP(A, http(endpoint=endpoint, description=" d "), KEY)) == [
        HTTPConfigAdded(id=A, endpoint=endpoint, description=" d ", signing_key=KEY)
    ]


def test_an_http_change_says_only_what_changed() -> None:
    state = replay([http_added(A)])

    events = decide(state, ChangeHTTP(A, HTTPConfig(endpoint="https://hook.example.com/mail")))

    assert events == [HTTPConfigChanged(id=A, description="")]
    assert replay(events, state).providers[A] == HTTPProvider(http(description=""), KEY)


def test_an_http_provider_with_the_same_values_does_not_change() -> None:
    assert decide(replay([http_added(A)]), ChangeHTTP(A, http())) == []


def test_a_new_signing_key_is_a_change() -> None:
    state = replay([http_added(A)])

    events = decide(state, ChangeHTTP(A, http(), NEW_KEY))

    assert events == [HTTPConfigChanged(id=A, signing_key=NEW_KEY)]
    assert replay(events, state).providers[A] == HTTPProvider(http(), NEW_KEY)


@pytest.mark.parametrize(
    ("id", "text"),
    [
        (EMPTY, "ID missing (COMMAND-2MHkV8ObWo)"),
        (UNKNOWN, "SMTP configuration not found (COMMAND-xIrdledqv4)"),
        (A, "SMTP configuration not found (COMMAND-xIrdledqv4)"),
    ],
)
def test_an_http_change_finds_http_providers_only(id: ProviderId, text: str) -> None:
    assert str(refused(replay([added(A)]), ChangeHTTP(id, http()))) == text


# --- activate, deactivate, remove


def test_activating_a_provider_deactivates_the_previous_one() -> None:
    """An instance has at most one active provider."""
    state = replay([added(A), http_added(B), activated(A)])

    events = decide(state, Activate(B))

    assert events == [ProviderActivated(B)]
    assert replay(events, state).active == B


def test_deactivating_leaves_none_active() -> None:
    state = replay([added(A), activated(A)])

    events = decide(state, Deactivate(A))

    assert events == [ProviderDeactivated(A)]
    assert replay(events, state).active is None


@pytest.mark.parametrize("active", [A, B])
def test_a_provider_is_removed_active_or_not(active: ProviderId) -> None:
    state = replay([added(A), added(B), activated(active)])

    events = decide(state, Remove(A))

    assert events == [ProviderRemoved(A)]
    assert replay(events, state) == EmailProviders({B: SMTPProvider(smtp(), PASSWORD)}, None if active == A else B)


@pytest.mark.parametrize(
    ("command", "kind", "text"),
    [
        (Activate(EMPTY), InvalidArgument, "ID missing (COMMAND-1hPl6oVMJa)"),
        (Activate(UNKNOWN), NotFound, "SMTP configuration not found (COMMAND-E9K20hxOS9)"),
        (Activate(A), FailedPrecondition, "Errors.SMTPConfig.AlreadyActive (COMMAND-vUHBSmBzaw)"),
        (Deactivate(EMPTY), InvalidArgument, "ID missing (COMMAND-jLTIMrtApO)"),
        (Deactivate(UNKNOWN), NotFound, "SMTP configuration not found (COMMAND-k39PJ)"),
        (Deactivate(B), FailedPrecondition, "SMTP configuration already deactivated (COMMAND-km8g3)"),
        (Remove(EMPTY), InvalidArgument, "ID missing (COMMAND-0ZV5whuUfu)"),
        (Remove(UNKNOWN), NotFound, "SMTP configuration not found (COMMAND-09CXlTDL6w)"),
    ],
)
def test_what_is_refused_and_how(command: Command, kind: type[MailwardError], text: str) -> None:
    error = refused(replay([added(A), added(B), activated(A)]), command)

    assert (type(error), str(error)) == (kind, text)


@pytest.mark.parametrize("command", [Activate, Deactivate, Remove, lambda id: ChangeSMTP(id, smtp())])
def test_a_removed_provider_stays_removed(command: Callable[[ProviderId], Command]) -> None:
    """In the original it comes back once another one is activated (departure 13)."""
    state = replay([added(A), added(B), activated(A), ProviderRemoved(A), activated(B)])

    assert isinstance(refused(state, command(A)), NotFound)


# --- all rules at once

IDS = st.sampled_from([A, B, C])
CONFIGS = st.builds(
    SMTPConfig,
    sender_address=st.sampled_from(["a@example.com", " b@example.com "]),
    sender_name=st.just("A"),
    host=st.sampled_from(["a:25", "b:587"]),
    tls=st.booleans(),
    user=st.sampled_from(["", "u"]),
)
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(AddSMTP, IDS, CONFIGS, st.sampled_from([None, PASSWORD])),
    st.builds(AddHTTP, IDS, st.builds(HTTPConfig, endpoint=st.sampled_from(["x", "y"])), st.just(KEY)),
    st.builds(ChangeSMTP, IDS, CONFIGS, st.sampled_from([None, NEW_PASSWORD])),
    st.builds(ChangeHTTP, IDS, st.builds(HTTPConfig, endpoint=st.sampled_from(["x", "y"])), st.none()),
    st.builds(ChangePassword, IDS, st.sampled_from([None, NEW_PASSWORD])),
    st.builds(Activate, IDS),
    st.builds(Deactivate, IDS),
    st.builds(Remove, IDS),
)


@given(st.lists(COMMANDS, max_size=30))
def test_whatever_is_asked_the_active_one_exists_and_a_slice_decides_like_the_whole(commands: list[Command]) -> None:
    """Commands load only the provider that they touch, so the rest must not matter."""
    state = EmailProviders()
    for command in commands:
        if isinstance(command, AddSMTP | AddHTTP) and command.id in state.providers:
            continue  # ids are never drawn twice
        whole = outcome(state, command)
        assert isinstance(command, SetFailover) or whole == outcome(slice_of(state, command.id), command)
        state = replay(whole if isinstance(whole, list) else [], state)
        assert state.active is None or state.active in state.providers


def outcome(state: EmailProviders, command: Command) -> list[Event] | str:
    try:
        return decide(state, command)
    except MailwardError as error:
        return str(error)


def slice_of(state: EmailProviders, id: ProviderId) -> EmailProviders:
    providers = {id: state.providers[id]} if id in state.providers else {}
    return dataclasses.replace(state, providers=providers, active=id if state.active == id else None)
