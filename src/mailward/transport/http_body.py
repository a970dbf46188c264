"""What an HTTP provider is sent: the JSON body of ZITADEL's email webhooks, and its signature (spec 6.4) (pure)."""

import base64
import hmac
import json
import re
from collections.abc import Iterable
from typing import Any

from mailward.message.extract import extract

EVENT_TYPE = "mailward.message"  #: contextInfo.eventType: what ZITADEL names after the event of a user

_UNSAFE = re.compile("[&<>\u2028\u2029]")


class Letter:
    """One message, ready to be written for each of its recipients: only their address differs."""

    def __init__(self, content: bytes, *, reverse_path: str, provider_id: str, description: str) -> None:
        """`content`: an RFC 5322 message. Parses it: for a large one not on the event loop."""
        found = extract(content)
        provider = {"id": provider_id} | ({"description": description} if description else {})
        args = {
            "cc": found.cc,
            "from": found.sender,
            "messageID": found.message_id,
            "mime": base64.b64encode(content).decode(),
            "replyTo": found.reply_to,
            "reversePath": reverse_path,
            "to": found.to,
        }
        template = {"html": found.html, "subject": found.subject, "text": found.text}
        context = {"eventType": EVENT_TYPE, "provider": provider}
        head = {"args": _given(args), "contextInfo": context}
        self._before = (_json(head)[:-2] + ',"recipientEmailAddress":').encode()
        self._after = ('},"templateData":' + _json(_given(template)) + "}").encode()

    def body(self, recipient: str) -> bytes:
        """Return the body of the POST for `recipient`."""
        return self._before + _json(recipient).encode() + self._after


def signature(keys: Iterable[str], body: bytes, at_s: int) -> str:
    """Return the value of Zitadel-Signature for `body` sent at `at_s` (Unix seconds): a digest by each of `keys`.

    A key is used as its text.
    """
    signed = b"%d.%b" % (at_s, body)
    return f"t={at_s}" + "".join(f",v1={hmac.new(key.encode(), signed, 'sha256').hexdigest()}" for key in keys)


def _given(values: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}


def _json(value: Any) -> str:
    """Return JSON with sorted keys, and with the letters escaped that the original escapes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    text = _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return text.encode("utf-8", "replace").decode()
