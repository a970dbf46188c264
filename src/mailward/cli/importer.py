"""`mailward import zitadel`: take providers, policies and texts over, API to API; secrets are asked for."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from mailward.cli import common
from mailward.cli.remote import DEFAULT_URL, Refused, Remote, read_token

_TEXT_TYPES = (
    *("init", "passwordreset", "verifyemail", "verifyphone", "verifysmsotp", "verifyemailotp"),
    *("domainclaimed", "passwordless_registration", "password_change", "invite_user"),
)
_UNSUPPORTED = (404, 405, 501)


@click.group()
def command() -> None:
    """Take providers and policies over from another system."""


@dataclass(frozen=True)
class Step:
    """One thing to be done here, and what came of it."""

    what: str  #: e.g. "email provider smtp.example.com:587 (main relay)"
    outcome: str  #: "added", "exists", "changed", "same", "would add", "not supported", ...
    note: str = ""


@command.command()
@click.option("--url", required=True, help="Base URL of the ZITADEL.")
@click.option("--token-file", required=True, metavar="FILE", help="Token there, with IAM_OWNER or IAM_OWNER_VIEWER.")
@click.option("--to-url", default=DEFAULT_URL, show_default=True, help="This Mailward.")
@click.option("--to-token-file", default="mailward-data/owner.token", show_default=True, metavar="FILE")
@click.option(
    "--secrets", "secrets_file", metavar="FILE", help="JSON: provider id or host → password. Asked otherwise."
)
@click.option("--no-secrets", is_flag=True, help="Do not ask: providers are added without their passwords.")
@click.option("--activate/--no-activate", default=True, help="Activate what is active there. [default: yes]")
@click.option("--texts-to", metavar="FILE", help="Write the customised message texts there; Mailward has none itself.")
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def zitadel(
    url: str,
    token_file: str,
    to_url: str,
    to_token_file: str,
    secrets_file: str | None,
    no_secrets: bool,
    activate: bool,
    texts_to: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Copy email providers, SMS providers, policies and the default language from a ZITADEL to this Mailward.

    ZITADEL never gives passwords out, so they are asked for, or taken from --secrets. What exists here already is left
    alone, so the command may be run again. HTTP providers get a new signing key: tell their receivers.
    """
    source, target = Remote(url, read_token(token_file)), Remote(to_url, read_token(to_token_file))
    ask = _secrets(secrets_file, no_secrets or dry_run)
    try:
        steps = [
            *_email_providers(source, target, ask, activate=activate, dry_run=dry_run),
            *_sms_providers(source, target, ask, activate=activate, dry_run=dry_run),
            *_policies(source, target, dry_run=dry_run),
            *(_texts(source, Path(texts_to)) if texts_to else ()),
        ]
    except Refused as error:
        common.fail(str(error), code=error.exit_code)
    rows = [{"what": step.what, "outcome": step.outcome, "note": step.note} for step in steps]
    if as_json:
        common.print_json(rows)
    else:
        common.print_table(rows, ("what", "outcome", "note"))


def _secrets(file: str | None, silent: bool) -> Callable[[str, str, str], str]:
    """Return what gives the secret called `label` of the provider with this id and name; "" for none."""
    known: Mapping[str, str] = {}
    if file:
        try:
            known = json.loads(Path(file).read_text())
        except (OSError, ValueError) as error:
            common.fail(f"cannot read {file} (--secrets): {error}", code=2)

    def ask(id: str, name: str, label: str) -> str:
        found = known.get(id) or known.get(name)
        if found or silent:
            return found or ""
        answer: str = click.prompt(f"{label} of {name} (empty: none)", hide_input=True, default="", show_default=False)
        return answer

    return ask


def _search(remote: Remote, path: str) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = remote.call("POST", path, {}).get("result", [])
    return answer


# -- email providers --------------------------------------------------------------------------------------------------


def _email_providers(
    source: Remote, target: Remote, ask: Callable[[str, str, str], str], *, activate: bool, dry_run: bool
) -> Iterator[Step]:
    here = {_likeness(one): one for one in _search(target, "/admin/v1/email/_search")}
    for one in _search(source, "/admin/v1/email/_search"):
        kind = "smtp" if "smtp" in one else "http"
        name = one["smtp"].get("host", "") if kind == "smtp" else one["http"].get("endpoint", "")
        what = f"email provider {name}" + (f" ({one['description']})" if one.get("description") else "")
        is_active = one.get("state") == "EMAIL_PROVIDER_ACTIVE"
        known = here.get(_likeness(one))
        if known is not None:
            yield Step(what, "exists")
        elif dry_run:
            yield Step(what, "would add", "would activate" if is_active and activate else "")
            continue
        else:
            known, note = _add_email(target, one, kind, name, ask)
            yield Step(what, "added", note)
        if is_active and activate and known.get("state") != "EMAIL_PROVIDER_ACTIVE" and not dry_run:
            target.call("POST", f"/admin/v1/email/{known['id']}/_activate", {})
            yield Step(what, "activated")


def _likeness(provider: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what makes two providers the same to an operator."""
    smtp, http = provider.get("smtp", {}), provider.get("http", {})
    names = ("host", "user", "senderAddress", "senderName", "tls", "replyToAddress")
    return (provider.get("description", ""), http.get("endpoint"), *(smtp.get(name) for name in names))


def _add_email(
    target: Remote, one: Mapping[str, Any], kind: str, name: str, ask: Callable[[str, str, str], str]
) -> tuple[dict[str, Any], str]:
    description = {"description": one["description"]} if one.get("description") else {}
    if kind == "http":
        added = target.call("POST", "/admin/v1/email/http", {"endpoint": name, **description})
        return added, "it has a new signing key: GET /admin/v1/email/{id} shows it"
    fields = ("senderAddress", "senderName", "tls", "host", "user", "replyToAddress")
    config = {field: one["smtp"][field] for field in fields if field in one["smtp"]}
    password = ask(one["id"], name, "Password") if config.get("user") else ""
    added = target.call("POST", "/admin/v1/email/smtp", {**config, **description, "password": password})
    missing = bool(config.get("user")) and not password
    return added, "without its password: set it before you activate it" if missing else ""


# -- SMS providers ----------------------------------------------------------------------------------------------------


def _sms_providers(
    source: Remote, target: Remote, ask: Callable[[str, str, str], str], *, activate: bool, dry_run: bool
) -> Iterator[Step]:
    try:
        there = _search(source, "/admin/v1/sms/_search")
        here = [_sms_likeness(one) for one in _search(target, "/admin/v1/sms/_search")]
    except Refused as error:
        if error.status not in _UNSUPPORTED:
            raise
        yield Step("SMS providers", "not supported")
        return
    for one in there:
        twilio = one.get("twilio")
        name = twilio.get("sid", "") if twilio else one.get("http", {}).get("endpoint", "")
        what = f"SMS provider {name}"
        if _sms_likeness(one) in here:
            yield Step(what, "exists")
            continue
        if dry_run:
            yield Step(what, "would add")
            continue
        body = {**(twilio or one["http"]), "description": one.get("description", "")}
        body.pop("signingKey", None)
        if twilio:
            token = ask(one["id"], name, "Token")
            if not token:
                yield Step(what, "left out", "Twilio needs its token")
                continue
            body["token"] = token
        added = target.call("POST", f"/admin/v1/sms/{'twilio' if twilio else 'http'}", body)
        yield Step(what, "added")
        if activate and one.get("state") == "SMS_PROVIDER_CONFIG_ACTIVE":
            target.call("POST", f"/admin/v1/sms/{added['id']}/_activate", {})
            yield Step(what, "activated")


def _sms_likeness(provider: Mapping[str, Any]) -> tuple[Any, ...]:
    twilio, http = provider.get("twilio", {}), provider.get("http", {})
    return (provider.get("description", ""), twilio.get("sid"), twilio.get("senderNumber"), http.get("endpoint"))


# -- policies, language, texts ----------------------------------------------------------------------------------------

#: what, path, key of the answer, fields that are copied
_POLICIES = (
    (
        *("domain policy", "/admin/v1/policies/domain", "policy"),
        ("userLoginMustBeDomain", "validateOrgDomains", "smtpSenderAddressMatchesInstanceDomain"),
    ),
    ("notification policy", "/admin/v1/policies/notification", "policy", ("passwordChange",)),
)


def _policies(source: Remote, target: Remote, *, dry_run: bool) -> Iterator[Step]:
    for what, path, key, fields in _POLICIES:
        there, here = (_get(remote, path, key) for remote in (source, target))
        if there is None or here is None:
            yield Step(what, "not supported")
            continue
        wanted = {field: there.get(field, False) for field in fields}
        if wanted == {field: here.get(field, False) for field in fields}:
            yield Step(what, "same")
        elif dry_run:
            yield Step(what, "would change")
        else:
            target.call("PUT", path, wanted)
            yield Step(what, "changed")
    language, ours = (_get(remote, "/admin/v1/languages/default", "language") for remote in (source, target))
    if language == ours or language is None:
        yield Step("default language", "same" if language else "not supported")
    elif dry_run:
        yield Step("default language", "would change", f"{ours} to {language}")
    else:
        target.call("PUT", f"/admin/v1/languages/default/{language}", {})
        yield Step("default language", "changed", f"{ours} to {language}")


def _get(remote: Remote, path: str, key: str) -> Any:
    """Return a member of the answer; None when this server does not have the call."""
    try:
        return remote.call("GET", path).get(key)
    except Refused as error:
        if error.status in _UNSUPPORTED:
            return None
        raise


def _texts(source: Remote, file: Path) -> Iterator[Step]:
    """Write the texts that somebody changed there, by type and language."""
    found: dict[str, dict[str, Any]] = {}
    languages = source.call("GET", "/admin/v1/languages").get("languages", [])
    for kind in _TEXT_TYPES:
        for language in languages:
            text = _get(source, f"/admin/v1/text/message/{kind}/{language}", "customText")
            if text and not text.pop("isDefault", False):
                text.pop("details", None)
                found.setdefault(kind, {})[language] = text
    file.write_text(json.dumps(found, ensure_ascii=False, indent=2) + "\n")
    count = sum(map(len, found.values()))
    yield Step(f"message texts, to {file}", "written", f"{count} customised; your application composes its mails now")
