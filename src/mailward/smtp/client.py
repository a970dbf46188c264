"""The client's side of SMTP without I/O: requests in, bytes out; bytes in, answers out (RFC 5321, 2920, 4954).

A request (`ehlo`, `begin`, `finish` ...) leaves bytes in `data_to_send`; `receive` gives one Answer when all replies to
it are there. What is still unanswered is known at every moment, so a lost connection has an exact place. A further
envelope may be pipelined behind the final dot (RFC 2920 3.1): its Answer comes after the dot's.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from mailward.smtp import auth
from mailward.smtp.reply import ProtocolError, Reply, ReplyReader, parse_reply

_MAX_AUTH_LINE_BYTES = 510  # RFC 4954 4: a longer initial response goes into a line of its own


class Command(Enum):
    """What a reply answers."""

    BANNER = auto()
    EHLO = auto()
    HELO = auto()
    STARTTLS = auto()
    AUTH = auto()
    RSET = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    FINAL = auto()  #: the final dot
    LONE_DOT = auto()  #: ends a DATA that a server opened though it had refused every recipient (RFC 2920 3.1)
    QUIT = auto()


@dataclass(slots=True)
class Transaction:
    """The replies to one envelope and its content, as far as they have come; None = not (yet) answered."""

    recipients: list[Reply | None]
    mail: Reply | None = None
    data: Reply | None = None  #: also None when DATA was not sent
    final: Reply | None = None

    @property
    def wants_content(self) -> bool:
        """Whether the server waits for content for at least one recipient."""
        if self.data is None or self.data.code != 354:
            return False
        for reply in self.recipients:  # noqa: SIM110  a generator costs more than the loop
            if reply is not None and reply.is_positive:
                return True
        return False


@dataclass(frozen=True, slots=True)
class Answer:
    """All replies to one request are there."""

    command: Command  #: that of the last reply; MAIL, RCPT, DATA or LONE_DOT for an envelope
    reply: Reply  #: the last one


class ClientConnection:
    """One dialogue with a server. Wait for each Answer before the next request."""

    def __init__(self, ehlo_name: str) -> None:
        self.extensions: dict[str, str] = {}  #: EHLO keywords in upper case → parameters, e.g. {"SIZE": "1000"}
        self.transaction: Transaction | None = None  #: the current or last one
        self._behind: Transaction | None = None  # whose envelope was sent behind the final dot of the current one
        self._untaken: list[list[bytes]] = []  # replies behind that to a final dot
        self.answered = Command.BANNER  #: what the last reply was to; before any, what the first one will be to
        self.is_spent = False  #: 421 was answered, or the dialogue broke: close the connection
        self.secrets_sent: tuple[bytes, ...] = ()  #: what a login put on the wire, before base64
        self.token_refusal = ""  #: why the server refuses a token, as it puts it; "" when it did not say
        self._ehlo_name = ehlo_name
        self._reader = ReplyReader()
        self._due: deque[Command] = deque([Command.BANNER])
        self._out: list[bytes] = []
        self._secrets: deque[bytes] = deque()  # SASL responses that the server has yet to ask for
        self._refusal_taken: bytes | None = None  # what a challenge behind them is answered; None: it is out of place
        self._envelope: deque[bytes] = deque()  # lines not sent yet, without PIPELINING
        self._next_recipient = 0  # index of the recipient whose reply comes next
        self._needs_reset = False

    @property
    def awaited(self) -> Command | None:
        """The command whose reply comes next; None when nothing is owed."""
        return self._due[0] if self._due else None

    @property
    def offers(self) -> frozenset[str]:
        """The SASL mechanisms offered, in upper case."""
        return frozenset(self.extensions.get("AUTH", "").upper().split())

    @property
    def size_limit(self) -> int:
        """The largest message the server takes, in octets; 0 = it names none (RFC 1870)."""
        limit = self.extensions.get("SIZE", "")
        return int(limit) if limit.isdigit() and len(limit) < 20 else 0

    @property
    def has_more(self) -> bool:
        """Whether replies have come that `receive` has not looked at."""
        return bool(self._untaken)

    def data_to_send(self) -> bytes:
        """Return the bytes to be sent now, once."""
        out = b"".join(self._out) if len(self._out) != 1 else self._out[0]
        self._out.clear()
        return out

    def receive(self, data: bytes) -> Answer | None:
        """Take `data` from the server. Raises ProtocolError, also for a reply that nothing asked for.

        Behind the Answer to a final dot more may wait (`has_more`): then call it again, with b"".
        """
        answer = None
        try:
            replies, self._untaken = [*self._untaken, *self._reader.feed(data)], []
            for index, lines in enumerate(replies):
                reply = parse_reply(lines)
                if reply.code == 421:
                    answer = self._end(reply)
                    break
                if not self._due:
                    raise ProtocolError(f"unexpected reply: {reply}")
                self.answered = self._due.popleft()
                answer = self._take(self.answered, reply, lines) or answer
                if self.answered is Command.FINAL:
                    self._untaken = replies[index + 1 :]
                    break
        except ProtocolError:
            self.is_spent = True
            raise
        return answer

    # Requests

    def ehlo(self) -> None:
        """Ask for the extensions; falls back to HELO by itself. Also right after STARTTLS, when all is forgotten."""
        self.extensions = {}
        self._send(Command.EHLO, f"EHLO {self._ehlo_name}\r\n".encode())

    def starttls(self) -> None:
        """Ask for TLS. After a 220, shake hands, then `ehlo` again."""
        self._send(Command.STARTTLS, b"STARTTLS\r\n")

    @property
    def has_unread(self) -> bool:
        """Whether bytes wait behind the last whole reply; before a TLS handshake that is an attack (RFC 3207 4.2)."""
        return not self._reader.is_empty

    def authenticate(self, user: str, password: str) -> None:
        """Log in by PLAIN where offered, else by LOGIN. Raises ValueError when neither is offered."""
        mechanism = next((m for m in auth.MECHANISMS if m in self.offers), None)
        if mechanism is None:
            raise ValueError("neither PLAIN nor LOGIN is offered")
        message = auth.plain_message(user, password)
        self.secrets_sent = (message, password.encode())
        if mechanism == "PLAIN":
            self._authenticate(mechanism, message)
            return
        self._secrets = deque([auth.encode(user.encode()), auth.encode(password.encode())])
        self._send(Command.AUTH, b"AUTH LOGIN\r\n")

    def authenticate_by_token(self, user: str, token: str, host: str, port: int) -> None:
        """Log in by OAUTHBEARER where offered, else by XOAUTH2. Raises ValueError when neither is offered."""
        mechanism = next((m for m in auth.TOKEN_MECHANISMS if m in self.offers), None)
        if mechanism is None:
            raise ValueError("neither OAUTHBEARER nor XOAUTH2 is offered")
        self._refusal_taken = auth.REFUSAL_TAKEN[mechanism]
        message = auth.bearer_message(mechanism, user, token, host, port)
        self.secrets_sent = (message, token.encode())
        self._authenticate(mechanism, message)

    def _authenticate(self, mechanism: str, message: bytes) -> None:
        """Send `message` as the initial response, or where that is too long when the server asks for it."""
        line = b"AUTH %b %b" % (mechanism.encode(), auth.encode(message))
        if len(line) > _MAX_AUTH_LINE_BYTES:
            line, response = line.rsplit(b" ", 1)
            self._secrets = deque([response])
        self._send(Command.AUTH, line + b"\r\n")

    def begin(
        self, reverse_path: str, recipients: Sequence[str], *, size: int, eight_bit: bool, smtputf8: bool
    ) -> Transaction:
        """Offer an envelope; what is returned tells the result, then `finish` if it `wants_content`.

        May come behind `finish` before that is answered, where PIPELINING is offered.

        `size`: octets of the content. `eight_bit`: the content has octets above 127. Raises ValueError for an address
        that contains a line end or cannot be encoded; nothing is sent then.
        """
        extensions = self.extensions
        parameters = f" SIZE={size}" if "SIZE" in extensions else ""
        if eight_bit and "8BITMIME" in extensions:
            parameters += " BODY=8BITMIME"
        if smtputf8:
            parameters += " SMTPUTF8"
        mail = f"MAIL FROM:<{reverse_path}>{parameters}\r\n"
        block = mail + "".join([f"RCPT TO:<{recipient}>\r\n" for recipient in recipients])
        if block.count("\n") != len(recipients) + 1 or block.count("\r") != len(recipients) + 1:
            raise ValueError("an address contains a line end")
        lines = block.encode()
        transaction = Transaction([None] * len(recipients))
        if self._due:
            self._behind = transaction
        else:
            self._go_on_to(transaction)
        if self._needs_reset:
            self._send(Command.RSET, b"RSET\r\n")
        if "PIPELINING" in extensions:
            self._due.extend([Command.MAIL, *[Command.RCPT] * len(recipients), Command.DATA])
            self._envelope.clear()
            self._out.append(lines + b"DATA\r\n")
        else:
            self._envelope = deque(lines.splitlines(keepends=True))
            if not self._needs_reset:
                self._send_next_line()
        self._needs_reset = False
        return transaction

    def _go_on_to(self, transaction: Transaction) -> None:
        self.transaction = transaction
        self._next_recipient = 0

    def finish(self) -> None:
        """The content follows, stuffed (data.stuff), and its final dot; beside `data_to_send`, because it is large."""
        self._due.append(Command.FINAL)

    def quit(self) -> None:
        """Say goodbye."""
        self._send(Command.QUIT, b"QUIT\r\n")

    def _send(self, command: Command, line: bytes) -> None:
        self._due.append(command)
        self._out.append(line)

    def _send_next_line(self) -> None:
        """Without PIPELINING: the next of MAIL and RCPT, or DATA if any recipient was accepted."""
        assert self.transaction is not None
        if self._envelope:
            line = self._envelope.popleft()
            self._send(Command.MAIL if self.transaction.mail is None else Command.RCPT, line)
        elif any(reply and reply.is_positive for reply in self.transaction.recipients):
            self._send(Command.DATA, b"DATA\r\n")

    # Replies

    def _take(self, command: Command, reply: Reply, lines: list[bytes]) -> Answer | None:
        if command is Command.RCPT or command is Command.MAIL or command is Command.DATA:  # An enum's hash is dear.
            return self._take_envelope(command, reply)
        if reply.code // 100 == 3 and command is not Command.AUTH:
            raise ProtocolError(f"unexpected reply to {command.name}: {reply}")
        if command is Command.FINAL:
            assert self.transaction is not None
            self.transaction.final = reply
            if self._behind is not None:
                self._go_on_to(self._behind)
                self._behind = None
        elif command is Command.AUTH:
            if reply.code // 100 == 3:
                self._continue_auth(reply)
                return None
            self._secrets.clear()
        elif command is Command.EHLO:
            if reply.is_permanent:  # A server of before 1995, or one that is asked to play it.
                self._send(Command.HELO, f"HELO {self._ehlo_name}\r\n".encode())
                return None
            if reply.is_positive:
                self.extensions = _parse_extensions(lines)
        elif command is Command.RSET:
            if not reply.is_positive:
                raise ProtocolError(f"RSET refused: {reply}")
            if self._envelope:
                self._send_next_line()
            return None
        return Answer(command, reply)

    def _take_envelope(self, command: Command, reply: Reply) -> Answer | None:
        transaction = self.transaction
        assert transaction is not None
        if reply.code // 100 == 3 and (command is not Command.DATA or reply.code != 354):
            raise ProtocolError(f"unexpected reply to {command.name}: {reply}")
        if command is Command.MAIL:
            transaction.mail = reply
            if not reply.is_positive and self._envelope:  # Without PIPELINING nothing further was sent.
                self._envelope.clear()
                return Answer(command, reply)
        elif command is Command.RCPT:
            transaction.recipients[self._next_recipient] = reply
            self._next_recipient += 1
        elif command is Command.DATA:
            if reply.is_positive:
                raise ProtocolError(f"unexpected reply to DATA: {reply}")
            transaction.data = reply
            if reply.code == 354 and not transaction.wants_content:
                self._send(Command.LONE_DOT, b".\r\n")
            elif reply.code == 354 and transaction.mail is not None and not transaction.mail.is_positive:
                raise ProtocolError(f"MAIL refused ({transaction.mail}), yet DATA accepted")
            elif reply.code != 354 and transaction.mail is not None and transaction.mail.is_positive:
                self._needs_reset = True
        if self._due:
            return None
        if command is not Command.DATA:
            self._send_next_line()
            if self._due:
                return None
            self._needs_reset = True  # MAIL stood, no recipient did, and DATA was not sent.
        return Answer(command, reply)

    def _continue_auth(self, reply: Reply) -> None:
        if self._secrets:
            line = self._secrets.popleft()
        elif self._refusal_taken is not None:
            self.token_refusal = auth.refusal_words(reply.text)
            line, self._refusal_taken = self._refusal_taken, None
        else:  # More challenges than the mechanism has: cancel, and the server says why.
            line = b"*"
        self._send(Command.AUTH, line + b"\r\n")

    def _end(self, reply: Reply) -> Answer:
        """421: the server hangs up. Everything still due has this answer."""
        self.is_spent = True
        command = self._due[0] if self._due else Command.QUIT
        transaction = self.transaction
        if transaction is not None and command in _IN_TRANSACTION:
            if command is Command.FINAL:
                transaction.final = reply
            elif command is not Command.LONE_DOT:
                if transaction.mail is None:
                    transaction.mail = reply
                transaction.recipients = [answered or reply for answered in transaction.recipients]
                transaction.data = reply
        self._due.clear()
        return Answer(command, reply)


_IN_TRANSACTION = frozenset({Command.MAIL, Command.RCPT, Command.DATA, Command.RSET, Command.FINAL, Command.LONE_DOT})


def _parse_extensions(lines: list[bytes]) -> dict[str, str]:
    extensions: dict[str, str] = {}
    for line in lines[1:]:
        keyword, _, parameters = line[4:].decode("ascii", "replace").strip().partition(" ")
        if keyword.upper().startswith("AUTH="):  # Microsoft's spelling before RFC 2554.
            keyword, parameters = "AUTH", f"{keyword[5:]} {parameters}"
        keyword = keyword.upper()
        merged = f"{extensions[keyword]} {parameters}" if keyword == "AUTH" and keyword in extensions else parameters
        extensions[keyword] = merged.strip()
    return extensions
