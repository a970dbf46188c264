"""The envelope: who a message comes from and goes to, apart from its content (RFC 5321 2.3.1)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Envelope:
    """A reverse-path and its recipients, as they will be sent: domains in A-labels, no display names, no "<>"."""

    reverse_path: str  #: "" is the null reverse-path of bounces
    recipients: tuple[str, ...]  #: one or more, in the order given, without repetition
    smtputf8: bool = False  #: a local part or a header has non-ASCII letters (RFC 6531)
