"""Plays golden sessions: calls in order, values captured for later ones, every answer compared."""

import email
import email.policy
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.golden.assertions import ServiceKey
from tests.support.golden.matchers import ABSENT, diff
from tests.support.golden.sinks import Mail, Sinks
from tests.support.golden.target import Answer, Target


@dataclass(frozen=True)
class Session:
    """A recorded list of calls with their answers; tests/golden/README.md has the format."""

    name: str  #: of its file, without ".json"
    about: str
    steps: list[dict[str, Any]]

    @classmethod
    def load(cls, file: Path) -> "Session":
        content = json.loads(file.read_text())
        return cls(file.stem, content["about"], content["steps"])


class Player:
    """Plays sessions against one server."""

    def __init__(self, target: Target, sinks: Sinks, key: ServiceKey, client: str) -> None:
        """`key`: file of a service account with IAM_OWNER; `client`: "id:secret" of one."""
        self._target, self._sinks, self._key = target, sinks, key
        id, _, secret = client.partition(":")
        self._given = {"client.id": id, "client.secret": secret, "key.user": key.user}

    def play(self, session: Session) -> list[str]:
        """Play `session` from an empty server on; return what differs as readable lines, none when nothing does."""
        self._empty()
        base = f"http://{self._target.host}:{self._target.port}"
        variables: dict[str, Any] = {"base": base, **self._given}
        report = []
        for number, step in enumerate(session.steps, 1):
            lines = self._step(step, variables)
            if lines:
                report += [f"step {number} {step['name']!r}", *(f"    {line}" for line in lines[:20])]
        return report

    def _step(self, step: dict[str, Any], variables: dict[str, Any]) -> list[str]:
        changes = _expand(step.get("jwt", {}), lambda name: self._value(name, variables))
        signed = {"jwt": self._key.assertion(variables["base"], changes)} if "${jwt}" in str(step) else {}
        step = _expand(step, lambda name: self._value(name, {**variables, **signed}))
        answer = _shown(self._sinks.next_mail(step["mail"])) if "mail" in step else self._target.call(step)
        lines = _compare(step["expect"], answer)
        if lines and any(not _compare(other, answer) for other in step.get("also_ok", [])):
            lines = []
        body = answer.get("response", answer.get("body"))
        for name, pointer in step.get("capture", {}).items():
            found = _at(body, pointer)
            if found is None:
                lines.append(f"capture {name}: nothing at {pointer}")
            variables[name] = found
        return lines

    def _value(self, name: str, variables: Mapping[str, Any]) -> str:
        if repeat := re.fullmatch(r"([\s\S]+)\*(\d+)", name):
            return repeat[1] * int(repeat[2])
        if name.startswith("smtp."):
            return self._sinks.address(name.removeprefix("smtp."))
        return str(variables[name])

    def _empty(self) -> None:
        """Remove every provider through the API, and the mails left in the sinks: a session starts from nothing."""
        self._sinks.forget()
        for family in ("/admin/v1/smtp", "/admin/v1/sms"):
            search = {"as": "owner", "method": "POST", "path": f"{family}/_search", "body": {}}
            for item in self._target.call(search)["body"].get("result", []):
                self._target.call({"as": "owner", "method": "DELETE", "path": f"{family}/{item['id']}"})


def _expand(value: Any, lookup: Callable[[str], str]) -> Any:
    """Return `value` with every ${name} in its texts replaced."""
    if isinstance(value, dict):
        return {_expand(key, lookup): _expand(item, lookup) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, lookup) for item in value]
    return re.sub(r"\$\{([^{}]+)\}", lambda found: lookup(found[1]), value) if isinstance(value, str) else value


def _compare(expect: Mapping[str, Any], answer: Answer) -> list[str]:
    lines = []
    for part, expected in expect.items():
        actual = answer.get(part, ABSENT)
        if part in ("headers", "trailers"):  # Only the named ones are compared.
            lines += [
                line for key in expected for line in diff(expected[key], actual.get(key, ABSENT), f"{part}.{key}")
            ]
        else:
            lines += diff(expected, actual, part)
    return lines


def _at(value: Any, pointer: str) -> Any:
    for key in pointer.strip("/").split("/"):
        match value:
            case list():
                value = value[int(key)]
            case dict():
                value = value.get(key)
            case _:
                return None
    return value


def _shown(mail: Mail | None) -> Answer:
    """Return the facts of a mail that its reader can see."""
    if mail is None:
        return {"mail": "none arrived"}
    message = email.message_from_bytes(mail.data, policy=email.policy.default)
    sender = message["From"].addresses[0]
    shown = {
        "envelope_from": _path(mail.sender),
        "envelope_to": [_path(line) for line in mail.recipients],
        "ehlo": mail.ehlo,
        "from": {"name": sender.display_name, "address": sender.addr_spec},
        "to": str(message["To"]),
        "subject": str(message["Subject"]),
        "content_type": message.get_content_type(),
        "reply_to": str(message["Reply-To"]) if message["Reply-To"] else None,
        "text": message.get_content().strip(),
        "auth": mail.auth,
    }
    return {key: value for key, value in shown.items() if value is not None}


def _path(command: str) -> str:
    found = re.search(r"<([^>]*)>", command)
    return found[1] if found else command
