"""The stable code of a server's refusal, by the stage where it was said and what was said (pure)."""

from mailward.smtp.reply import Reply
from mailward.transport.outcome import Stage

_BY_STAGE = {
    Stage.BANNER: "banner_refused",
    Stage.EHLO: "ehlo_refused",
    Stage.TLS: "starttls_refused",
    Stage.AUTH: "auth_rejected",
    Stage.MAIL: "mail_refused",
    Stage.RCPT: "rcpt_refused",
    Stage.DATA: "data_refused",
    Stage.FINAL: "content_refused",
}
_TOO_LARGE = frozenset({"5.2.3", "5.3.4"})  # RFC 3463 3.3, 3.4: longer than the recipient's, the system's limit
_RELAYING = frozenset({"4.7.1", "5.7.1"})  # "delivery not authorized": said of a recipient, it is about relaying


def code_of(stage: Stage, reply: Reply) -> str:
    """Return the code, a key of report.CODES, of `reply` that refused what was asked for at `stage`."""
    if reply.code == 421:
        return "service_unavailable"
    if stage is Stage.AUTH:
        return _auth_code(reply)
    if stage in (Stage.BANNER, Stage.EHLO, Stage.TLS):
        return _BY_STAGE[stage]
    if reply.code in (530, 534, 535, 538):  # RFC 4954 6, RFC 3207 4: what must come before mail
        return "tls_required" if _wants_tls(reply) else "auth_required"
    if reply.code == 454 or reply.enhanced.endswith(".4.5"):  # RFC 3463 3.5: congestion; some say quota so
        return "quota_exceeded"
    if stage is Stage.RCPT:
        if reply.enhanced in _RELAYING or "relay" in reply.text.lower():
            return "relay_denied"
        return "rcpt_refused" if reply.is_permanent else "rcpt_deferred"
    if reply.enhanced in _TOO_LARGE or (reply.code == 552 and not reply.enhanced.startswith("5.2.")):
        return "message_too_large"
    if reply.code == 452:
        return "quota_exceeded"
    return _BY_STAGE[stage] if reply.is_permanent else "temporarily_refused"


def _auth_code(reply: Reply) -> str:
    if reply.code == 538 or (reply.code == 530 and _wants_tls(reply)):
        return "tls_required"
    if reply.code == 534:  # RFC 4954 6: "mechanism too weak", which is how app passwords are asked for
        return "auth_method_refused"
    if reply.code == 504:
        return "auth_mechanism_unsupported"
    return "auth_rejected" if reply.is_permanent else "auth_unavailable"


def _wants_tls(reply: Reply) -> bool:
    return reply.code == 538 or "TLS" in reply.text.upper()
