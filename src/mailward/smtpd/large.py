"""A large mail on its way in: its pieces go to the store as they come, and no more than a few are ever in memory."""

from mailward.delivery.idempotency import Fingerprint, parties
from mailward.delivery.submission import Submission
from mailward.delivery.upload import Upload
from mailward.errors import MailwardError
from mailward.message.complete import Completed, refuse_nul
from mailward.message.options import Lasting, MailOptions
from mailward.smtpd import intake
from mailward.smtpd.intake import Received


class LargeMail:
    """`take` its pieces, then `finish`, or `discard` it. A fault in it is kept until the final dot has come."""

    def __init__(self, received: Received, upload: Upload, *, hostname: str, now_us: int) -> None:
        self.upload = upload
        self._received = received
        self._hostname = hostname
        self._now_us = now_us
        self._completed: Completed | None = None
        self._options: MailOptions | None = None
        self._lasting = Lasting()
        self._fingerprint: Fingerprint | None = None
        self._fault: MailwardError | None = None

    def take(self, piece: bytes) -> None:
        """Take the next lines; the first ones hold the header section."""
        if self._fault is not None:
            return
        try:
            if self._completed is None:
                piece = self._begin(piece)
            else:
                self._look(piece)
        except MailwardError as fault:
            self._fault = fault
        else:
            self.upload.add(piece)

    async def finish(self, end: bytes) -> Submission:
        """Return the submission of the mail, of which `end` is the rest. Raises InvalidArgument, Unavailable."""
        try:
            if self._fault is not None:
                raise self._fault
            self._look(end)
            content = await self.upload.finish(end)
        except BaseException:
            self.discard()
            raise
        assert self._completed is not None
        key = None if self._options is None else self._options.idempotency_key
        idempotency = self._fingerprint.under(key) if self._fingerprint is not None and key is not None else None
        return intake.submitted(self._received, self._completed, self._options, content, idempotency)

    def discard(self) -> None:
        """Forget it: it was refused, or its client has gone."""
        self.upload.discard()

    def _begin(self, piece: bytes) -> bytes:
        completed, options = intake.read(self._received, piece, hostname=self._hostname, now_us=self._now_us)
        if options is not None and options.idempotency_key is not None:
            header, body = self._lasting.begin(piece)
            self._fingerprint = Fingerprint(parties(self._received.reverse_path, self._received.recipients), header)
            self._fingerprint.go_on(body)
        content, completed.content = completed.content, b""
        self._completed, self._options = completed, options
        return content

    def _look(self, piece: bytes) -> None:
        refuse_nul(piece)
        if self._fingerprint is not None:
            self._fingerprint.go_on(self._lasting.go_on(piece))
