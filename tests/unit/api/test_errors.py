"""What a caller sees of an error."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailward import errors, log
from mailward.api.errors import code_of, on_error
from mailward.proto.zitadel.message_pb2 import ErrorDetail
from mailward.rpc.service import Call, Code

NOT_FOUND = errors.NotFound("QUERY-fwofw", "SMTP configuration not found")


def admin_call(**metadata: str) -> Call:
    names = {name.replace("_", "-"): value for name, value in metadata.items()}
    return Call("/zitadel.admin.v1.AdminService/GetSMTPConfig", names, "rest", request_id="r1")


def own_call() -> Call:
    return Call("/mailward.v1.MessageService/SendMessage", {"accept-language": "de"}, "rest")


def test_the_id_stands_behind_the_text_and_both_stand_in_the_detail() -> None:
    error = on_error(NOT_FOUND, admin_call())

    assert (error.code, error.message) == (Code.NOT_FOUND, "SMTP configuration not found (QUERY-fwofw)")
    assert error.details == (ErrorDetail(id="QUERY-fwofw", message="SMTP configuration not found"),)


@pytest.mark.parametrize("header", ["accept_language", "grpcgateway_accept_language"])
def test_the_text_is_in_the_language_of_the_caller(header: str) -> None:
    error = on_error(NOT_FOUND, admin_call(**{header: "de-CH"}))

    assert error.message == "SMTP-Konfiguration nicht gefunden (QUERY-fwofw)"
    assert error.details == (ErrorDetail(id="QUERY-fwofw", message="SMTP-Konfiguration nicht gefunden"),)


def test_an_error_of_our_own_services_points_at_the_field_and_has_no_id_in_its_text() -> None:
    error = on_error(errors.InvalidArgument("MAIL-1", "no mailbox", pointer="/to/0"), own_call())

    assert (error.code, error.message, error.pointer) == (Code.INVALID_ARGUMENT, "no mailbox", "/to/0")
    assert error.code_name == "invalid_argument"
    assert error.details == (ErrorDetail(id="MAIL-1", message="no mailbox"),)


def test_an_internal_error_without_an_id_passes_through_as_unknown() -> None:
    """The reply to a refused DATA reaches the caller so (spec 5.3)."""
    error = on_error(errors.Internal("", "554 data refused"), admin_call())

    assert (error.code, error.message, error.details) == (Code.UNKNOWN, "554 data refused", ())


KINDS = {
    errors.InvalidArgument: 3,
    errors.DeadlineExceeded: 4,
    errors.NotFound: 5,
    errors.AlreadyExists: 6,
    errors.PermissionDenied: 7,
    errors.ResourceExhausted: 8,
    errors.FailedPrecondition: 9,
    errors.Unimplemented: 12,
    errors.Internal: 13,
    errors.Unavailable: 14,
    errors.Unauthenticated: 16,
}


@pytest.mark.parametrize(("kind", "code"), KINDS.items())
def test_every_kind_has_a_code(kind: type[errors.MailwardError], code: int) -> None:
    assert set(errors.MailwardError.__subclasses__()) >= set(KINDS)
    assert code_of(kind("X", "x")) == code


def test_a_kind_made_of_another_has_its_code() -> None:
    class Conflict(errors.FailedPrecondition):
        pass

    assert code_of(Conflict("X", "x")) is Code.FAILED_PRECONDITION


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "log"
    log.flush()  # What other tests left behind.
    with file.open("wb") as sink:
        log.configure("info", console=False, fd=sink.fileno())
        yield file
        log.flush()
        log.configure("warning", console=False, fd=2)


def test_of_an_unforeseen_error_the_caller_learns_nothing_and_the_log_where_it_happened(log_file: Path) -> None:
    """Its text may hold secrets: neither the caller nor the log gets it."""
    try:
        raise KeyError("correct horse battery")
    except KeyError as unforeseen:
        error = on_error(unforeseen, admin_call())
    log.flush()

    line = json.loads(log_file.read_text())
    assert (error.code, error.message) == (Code.INTERNAL, "An internal error occurred (API-In7rn)")
    assert (line["event"], line["kind"], line["request_id"]) == ("call.failed", "KeyError", "r1")
    assert "test_of_an_unforeseen_error" in line["where"][-1]
    assert "horse" not in log_file.read_text()
