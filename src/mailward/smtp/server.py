"""The server's side of SMTP without I/O: bytes in, events and bytes out (RFC 5321, 1870, 2920, 3207, 4954, 6152, 6531).

Everything is answered here but two things, for which the application owes an answer: credentials, and a message
whose final dot has come. What the client pipelined behind them waits until `accept` or `reject`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from mailward.smtp import auth
from mailward.smtp.auth import Canceled, Credentials, MalformedResponse, ServerExchange
from mailward.smtp.events import Closed, Event, MessageReceived, MessageRefused, PieceReceived, StartTls
from mailward.smtp.path import PathError, parse_path, refuse_mail_parameters
from mailward.smtp.receiving import ContentReceiver, Piece, Refused
from mailward.smtp.reply import Reply, format_reply

MAX_COMMAND_BYTES = 2048  #: RFC 5321 4.5.3.1.4 asks for 512 and more for each extension
_MIB = 1 << 20

Policy = Callable[[str, dict[str, str]], Reply | None]
"""Judges a path and its parameters: None accepts, a Reply refuses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """What all connections of one listener share."""

    hostname: str  #: how we name ourselves in the banner and to EHLO
    max_size_bytes: int = 50 * _MIB  #: announced as SIZE; larger content is refused with 552
    max_line_bytes: int = 998  #: longest line of content without CRLF (RFC 5322 2.1.1); 0 = no limit
    piece_bytes: int = 0  #: content larger than this comes in pieces; 0: whole, whatever its size
    max_recipients: int = 1000  #: a transaction's; further ones are deferred with 452 (RFC 5321 4.5.3.1.10)
    max_errors: int = 20  #: refused commands after which we hang up with 421
    starttls: bool = False  #: announce STARTTLS; it disappears once TLS is on
    auth: bool = False  #: announce AUTH PLAIN LOGIN, over TLS only unless `auth_without_tls`
    auth_without_tls: bool = False
    auth_required: bool = False  #: MAIL is refused with 530 before AUTH
    dsn: bool = False  #: announce DSN; its parameters are checked for syntax and handed to the policies


Answer = bytes | Event  # what a command leads to: a reply that can be given at once, or an event


class ServerConnection:
    """One dialogue. `receive` what comes, send `data_to_send`, answer events; the banner is there from the start."""

    def __init__(
        self, config: ServerConfig, *, tls: bool = False, on_mail: Policy | None = None, on_rcpt: Policy | None = None
    ) -> None:
        """`tls`: the connection is encrypted already (implicit TLS). The policies judge each MAIL and RCPT."""
        self.helo = ""  #: the name the client gave; "" before EHLO and after STARTTLS
        self.is_esmtp = False  #: it said EHLO
        self.tls = tls
        self.user = ""  #: authcid of the accepted credentials
        self.is_closed = False
        self.is_waiting = False  #: an answer (or `tls_started`) is owed: stop reading from the socket
        self._config = config
        self._on_mail, self._on_rcpt = on_mail, on_rcpt
        self._out: list[bytes] = [b"220 %b ESMTP ready\r\n" % config.hostname.encode()]
        self._rest = b""  # of a command line, or everything while the application owes an answer
        self._content: ContentReceiver | None = None  # None outside DATA
        self._skipping = False  # in a command line that is too long
        self._offered: Credentials | None = None  # credentials waiting for an answer
        self._exchange: ServerExchange | None = None  # waiting for a response line
        self._errors = 0
        self._reverse_path: str | None = None
        self._recipients: list[str] = []
        self._smtputf8 = False

    def receive(self, data: bytes) -> list[Event]:
        """Take `data` from the client; return what is to be acted on, most often nothing."""
        if self.is_waiting or self.is_closed:
            self._rest = b"" if self.is_closed else self._rest + data
            return []
        if self._rest:
            data = self._rest + data
            self._rest = b""
        return self._run(data)

    def data_to_send(self) -> bytes:
        """Return the bytes to be sent to the client now, once."""
        out = b"".join(self._out)
        self._out.clear()
        return out

    def accept(self, reply: Reply | None = None) -> list[Event]:
        """Take the credentials or the message; return what the pipelined rest gives."""
        if self._offered is not None:
            self.user = self._offered.authcid
            return self._answer(reply or Reply(235, "2.7.0", "authenticated"))
        return self._answer(reply or Reply(250, "2.0.0", "accepted"))

    def reject(self, reply: Reply) -> list[Event]:
        """Refuse what was offered (a 421 also ends the dialogue); return what the pipelined rest gives."""
        if reply.code == 421:
            return self.close(reply)
        if self._offered is not None:
            self._errors += 1
        return self._answer(reply)

    def tls_started(self) -> None:
        """Begin anew, encrypted: all that was said or pipelined in clear text is forgotten (RFC 3207 4.2)."""
        self.tls, self.is_waiting = True, False
        self.helo, self.is_esmtp, self.user, self._rest = "", False, "", b""
        self._forget_transaction()

    def close(self, reply: Reply) -> list[Event]:
        """End the dialogue with `reply`, e.g. 421 at shutdown."""
        if self.is_closed:
            return []
        self._out.append(format_reply(reply))
        return [self._closed(reply.text)]

    def _answer(self, reply: Reply) -> list[Event]:
        self._offered, self.is_waiting = None, False
        self._out.append(format_reply(reply))
        if self._errors > self._config.max_errors:
            return self.close(_TOO_MANY_ERRORS)
        rest, self._rest = self._rest, b""
        return self._run(rest)

    def _run(self, data: bytes) -> list[Event]:
        """Go through `data` up to an event or its end, and keep what is left."""
        position = 0
        while position < len(data):
            answer: Answer | None
            if self._content is not None:
                position, answer = self._take_content(self._content, data, position)
            else:
                end = data.find(b"\n", position)
                if end < 0:
                    self._keep_partial_line(data[position:])
                    break
                answer = self._take_line(data[position:end])
                position = end + 1
            if type(answer) is bytes:
                self._out.append(answer)
                if answer[0] == _FIVE:
                    self._errors += 1
                    if self._errors > self._config.max_errors:
                        return self.close(_TOO_MANY_ERRORS)
            elif answer is not None:
                if self.is_waiting and not isinstance(answer, StartTls):
                    self._rest = data[position:]
                return [answer]  # type: ignore[list-item]  # mypy does not narrow by type(), which is the faster test
        return []

    def _keep_partial_line(self, rest: bytes) -> None:
        if self._skipping or self._is_too_long(rest):
            self._skipping, rest = True, rest[-1:]
        self._rest = rest

    # Content

    def _take_content(self, receiver: ContentReceiver, data: bytes, position: int) -> tuple[int, Answer | None]:
        position, found = receiver.feed(data, position)
        if found is None:
            if receiver.is_hopeless:
                return position, self.close(Reply(552, "5.3.4", "message too large"))[0]
            return position, None
        if isinstance(found, Piece):
            return position, PieceReceived(found.content, self._smtputf8)
        answer: Answer
        if not isinstance(found, Refused):
            assert self._reverse_path is not None
            answer = MessageReceived(self._reverse_path, tuple(self._recipients), found.content, self._smtputf8)
            self.is_waiting = True
        elif receiver.has_pieces:
            answer = MessageRefused(found.reply)
            self.is_waiting = True
            self._errors += 1
        else:
            answer = format_reply(found.reply)
        self._content = None
        self._forget_transaction()
        return position, answer

    # Command lines

    def _is_too_long(self, line: bytes) -> bool:
        if len(line) <= MAX_COMMAND_BYTES:
            return False
        is_response = self._exchange is not None or line[:5].upper() == b"AUTH "
        return not is_response or len(line) > auth.MAX_RESPONSE_BYTES

    def _take_line(self, line: bytes) -> Answer:
        if self._skipping or self._is_too_long(line):
            self._skipping, self._exchange = False, None
            return b"500 5.5.2 line too long\r\n"
        if not line.endswith(b"\r"):
            # Two readings of where a command ends are what smuggling lives on: no further word.
            return self.close(Reply(500, "5.5.2", "bare LF received; lines must end with CRLF"))[0]
        line = line[:-1]
        if b"\r" in line or b"\0" in line:
            self._exchange = None
            return b"500 5.5.2 bare CR or NUL in a command\r\n"
        if self._exchange is not None:
            return self._take_sasl_response(self._exchange, line)
        verb, _, argument = line.partition(b" ")
        command = _COMMANDS.get(verb) or _COMMANDS.get(verb := verb.upper())
        if command is None:
            if verb in _OTHER_PROTOCOLS:  # A browser made to talk to us.
                return self.close(Reply(421, "4.7.0", "this is an SMTP server"))[0]
            return _FIXED_REPLIES.get(verb, b"500 5.5.1 command unrecognized\r\n")
        return command(self, argument)

    def _mail(self, argument: bytes) -> Answer:
        if not self.helo:
            return b"503 5.5.1 send EHLO first\r\n"
        if self._reverse_path is not None:
            return b"503 5.5.1 nested MAIL command\r\n"
        config = self._config
        if config.auth_required and not self.user:
            return b"530 5.7.0 authentication required\r\n"
        parsed = self._parse(b"FROM:", argument, b"5.1.7")
        if isinstance(parsed, bytes):
            return parsed
        path, parameters = parsed
        if parameters:
            names = frozenset(("AUTH",) * config.auth + ("RET", "ENVID") * config.dsn)
            if (refusal := refuse_mail_parameters(parameters, config.max_size_bytes, names)) is not None:
                return refusal
        if self._on_mail is not None and (reply := self._on_mail(path, parameters)) is not None:
            return self._by_policy(reply)
        self._reverse_path, self._smtputf8 = path, "SMTPUTF8" in parameters
        return b"250 2.1.0 sender ok\r\n"

    def _rcpt(self, argument: bytes) -> Answer:
        if self._reverse_path is None:
            return b"503 5.5.1 send MAIL first\r\n"
        parsed = self._parse(b"TO:", argument, b"5.1.3")
        if isinstance(parsed, bytes):
            return parsed
        path, parameters = parsed
        if not path:
            return b"501 5.1.3 a recipient has an address\r\n"
        for name in parameters:
            if not (self._config.dsn and name in ("NOTIFY", "ORCPT")):
                return b"555 5.5.4 unsupported parameter %b\r\n" % name.encode()
        if len(self._recipients) >= self._config.max_recipients:
            return b"452 4.5.3 too many recipients\r\n"  # No error of the client's: it sends the rest later.
        if self._on_rcpt is not None and (reply := self._on_rcpt(path, parameters)) is not None:
            return self._by_policy(reply)
        self._recipients.append(path)
        return b"250 2.1.5 recipient ok\r\n"

    def _parse(self, keyword: bytes, argument: bytes, status: bytes) -> tuple[str, dict[str, str]] | bytes:
        """Return path and parameters, or the reply that refuses them with enhanced code `status`."""
        if argument[: len(keyword)].upper() != keyword:
            return b"501 5.5.4 syntax: %b<address>\r\n" % keyword
        try:
            path, parameters = parse_path(argument[len(keyword) :].decode())
        except UnicodeDecodeError:
            return b"501 %b address is not UTF-8\r\n" % status
        except PathError as error:
            return b"501 %b %b\r\n" % (status, str(error).encode())
        if not path.isascii() and not (self._smtputf8 or "SMTPUTF8" in parameters):
            return b"553 5.6.7 non-ASCII address without SMTPUTF8\r\n"
        return path, parameters

    def _data(self, argument: bytes) -> Answer:
        if argument:
            return b"501 5.5.4 DATA takes no argument\r\n"
        if not self._recipients:
            if self._reverse_path is None:
                return b"503 5.5.1 send MAIL first\r\n"
            return b"554 5.5.1 no valid recipients\r\n"
        config = self._config
        self._content = ContentReceiver(
            max_size_bytes=config.max_size_bytes, max_line_bytes=config.max_line_bytes, piece_bytes=config.piece_bytes
        )
        return b"354 end with <CRLF>.<CRLF>\r\n"

    def _ehlo(self, argument: bytes) -> Answer:
        config = self._config
        lines = [config.hostname, "PIPELINING", f"SIZE {config.max_size_bytes}", "8BITMIME", "SMTPUTF8"]
        lines += ["DSN"] * config.dsn + ["STARTTLS"] * (config.starttls and not self.tls)
        lines += ["AUTH PLAIN LOGIN"] * self._may_authenticate
        answer = "".join([f"250-{line}\r\n" for line in lines]) + "250 ENHANCEDSTATUSCODES\r\n"
        return self._greet(argument, answer, is_esmtp=True)

    def _helo(self, argument: bytes) -> Answer:
        return self._greet(argument, f"250 {self._config.hostname}\r\n", is_esmtp=False)

    def _greet(self, argument: bytes, answer: str, *, is_esmtp: bool) -> Answer:
        name = argument.strip().decode("ascii", "replace")
        if not name or not name.isprintable():
            return b"501 5.5.4 give your host name\r\n"
        self.helo, self.is_esmtp = name, is_esmtp
        self._forget_transaction()
        return answer.encode()

    def _starttls(self, argument: bytes) -> Answer:
        if argument:
            return b"501 5.5.4 STARTTLS takes no argument\r\n"
        if self.tls:
            return b"503 5.5.1 TLS is active\r\n"
        if not self._config.starttls:
            return b"502 5.5.1 STARTTLS is not offered\r\n"
        self._out.append(b"220 2.0.0 ready to start TLS\r\n")
        self.is_waiting = True
        return StartTls()

    def _rset(self, argument: bytes) -> Answer:
        self._forget_transaction()
        return b"250 2.0.0 ok\r\n"

    def _quit(self, argument: bytes) -> Answer:
        self._out.append(b"221 2.0.0 bye\r\n")
        return self._closed("quit")

    # AUTH

    @property
    def _may_authenticate(self) -> bool:
        return self._config.auth and (self.tls or self._config.auth_without_tls)

    def _auth(self, argument: bytes) -> Answer:
        if not self._may_authenticate:
            if self._config.auth and self._config.starttls:
                return b"538 5.7.11 encryption required: send STARTTLS first\r\n"
            return b"502 5.5.1 AUTH is not offered\r\n"
        if not self.is_esmtp or self.user or self._reverse_path is not None:
            return b"503 5.5.1 AUTH comes once, after EHLO and outside a transaction\r\n"
        mechanism, _, response = argument.strip().partition(b" ")
        name = mechanism.upper().decode("ascii", "replace")
        if name not in auth.MECHANISMS:
            return b"504 5.5.4 mechanism not offered\r\n"
        exchange = ServerExchange(name)
        if response:
            return self._take_sasl_response(exchange, response)
        self._exchange = exchange
        return b"334 %b\r\n" % exchange.first_challenge

    def _take_sasl_response(self, exchange: ServerExchange, line: bytes) -> Answer:
        self._exchange = None
        try:
            answer = exchange.respond(line)
        except Canceled:
            return b"501 5.7.0 authentication canceled\r\n"
        except MalformedResponse as error:
            return b"501 5.5.2 %b\r\n" % str(error).encode()
        if isinstance(answer, bytes):
            self._exchange = exchange
            return b"334 %b\r\n" % answer
        self._offered, self.is_waiting = answer, True
        return answer

    # Replies and ends

    def _by_policy(self, reply: Reply) -> Answer:
        return self.close(reply)[0] if reply.code == 421 else format_reply(reply)

    def _forget_transaction(self) -> None:
        self._reverse_path, self._recipients, self._smtputf8 = None, [], False

    def _closed(self, reason: str) -> Closed:
        self.is_closed, self.is_waiting, self._rest, self._content = True, False, b"", None
        self._forget_transaction()
        return Closed(reason)


_COMMANDS: dict[bytes, Callable[[ServerConnection, bytes], Answer]] = {
    b"MAIL": ServerConnection._mail,
    b"RCPT": ServerConnection._rcpt,
    b"DATA": ServerConnection._data,
    b"EHLO": ServerConnection._ehlo,
    b"HELO": ServerConnection._helo,
    b"STARTTLS": ServerConnection._starttls,
    b"AUTH": ServerConnection._auth,
    b"RSET": ServerConnection._rset,
    b"QUIT": ServerConnection._quit,
}
_FIXED_REPLIES = {
    b"NOOP": b"250 2.0.0 ok\r\n",
    b"VRFY": b"252 2.5.0 will not verify, but will take messages\r\n",
    b"EXPN": b"502 5.5.1 not implemented\r\n",
    b"HELP": b"214 2.0.0 see RFC 5321\r\n",
}
_OTHER_PROTOCOLS = frozenset({b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"PRI"})
_TOO_MANY_ERRORS = Reply(421, "4.7.0", "too many errors")
_FIVE = ord("5")
