"""From settings to an open session: resolve, connect, greet, encrypt, log in, each with its deadline."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace

from mailward.secretbox import SecretText
from mailward.smtp.auth import without_secrets
from mailward.smtp.client import Answer
from mailward.transport import egress
from mailward.transport.base import RelaySettings, TlsMode
from mailward.transport.connection import RelayConnection
from mailward.transport.outcome import Stage
from mailward.transport.refusal import code_of
from mailward.transport.report import Recorder
from mailward.transport.session import Session
from mailward.transport.tls import check_pin, handshake_trouble, speaks_tls
from mailward.transport.tokens import Token, Tokens
from mailward.transport.trouble import Trouble, local, refused

_PLAIN_PORTS = frozenset({25, 587})  # Where clear text comes first, and talking before the banner makes suspect.


async def open_session(
    settings: RelaySettings,
    context: Callable[[], ssl.SSLContext],
    *,
    check: egress.AddressCheck = egress.allow_all,
    known_tls: TlsMode | None = None,
    recorder: Recorder | None = None,
    prefer_old: bool = False,
    tokens: Tokens | None = None,
) -> Session:
    """Connect, greet, encrypt and log in as `settings` say. Raises Trouble.

    `context`: called once TLS is needed. `known_tls`: what an earlier session used, so nothing has to be found out.
    Where the password is refused and an old one is given, that is tried on a connection of its own; `prefer_old`: the
    other way round, because an earlier session had to. `tokens`: needed for a login by token; a token that is refused
    and may be too old is replaced once.
    """
    if settings.oauth is not None:
        assert tokens is not None
        return await _open_by_token(settings, context, check, known_tls, recorder, tokens)
    passwords = [settings.password, settings.old_password] if settings.old_password else [settings.password]
    if prefer_old:
        passwords.reverse()
    for password in passwords[:-1]:
        try:
            return await _open(replace(settings, password=password), context, check, known_tls, recorder)
        except Trouble as trouble:
            if trouble.code != "auth_rejected":
                raise
    session = await _open(replace(settings, password=passwords[-1]), context, check, known_tls, recorder)
    session.by_old_password = len(passwords) > 1 and passwords[-1] == settings.old_password
    return session


async def _open_by_token(
    settings: RelaySettings,
    context: Callable[[], ssl.SSLContext],
    check: egress.AddressCheck,
    known_tls: TlsMode | None,
    recorder: Recorder | None,
    tokens: Tokens,
) -> Session:
    used: list[Token] = []

    async def next_token() -> Token:
        # A test shows what the token endpoint says now, not what an older token covers.
        used.append(await tokens.get(settings, fresh=recorder is not None))
        return used[-1]

    try:
        return await _open(settings, context, check, known_tls, recorder, next_token)
    except Trouble as trouble:
        if trouble.code != "token_rejected" or not tokens.discard(settings, used[-1]):
            raise
    return await _open(settings, context, check, known_tls, recorder, next_token)


async def _open(
    settings: RelaySettings,
    context: Callable[[], ssl.SSLContext],
    check: egress.AddressCheck,
    known_tls: TlsMode | None,
    recorder: Recorder | None,
    next_token: Callable[[], Awaitable[Token]] | None = None,
) -> Session:
    opening = _Opening(settings, context, check, recorder, next_token)
    try:
        return await opening.run(known_tls)
    except BaseException:
        opening.drop()
        raise


class _Opening:
    """The way from settings to a session."""

    def __init__(
        self,
        settings: RelaySettings,
        context: Callable[[], ssl.SSLContext],
        check: egress.AddressCheck,
        recorder: Recorder | None,
        next_token: Callable[[], Awaitable[Token]] | None,
    ) -> None:
        self._next_token = next_token
        self._settings = settings
        self._context = context
        self._check = check
        self._recorder = recorder
        self._tls = TlsMode.NONE
        self._address: egress.Address | None = None
        self._connection: RelayConnection | None = None

    async def run(self, known_tls: TlsMode | None) -> Session:
        settings = self._settings
        self._use(known_tls or _first_mode(settings))
        addresses = await egress.resolve(settings.host, settings.port, settings.deadlines.connect_s, self._check)
        self._note(Stage.RESOLVE, ", ".join(str(address.sockaddr[0]) for address in addresses))
        self._connection = await self._dial(addresses, self._tls)
        answer = await self._banner(addresses, probe=known_tls is None)
        self._expect(answer, Stage.BANNER)
        await self._ehlo()
        if self._tls is TlsMode.STARTTLS:
            await self._starttls()
        await self._login()
        return Session(settings, self._connection, self._tls)

    def drop(self) -> None:
        if self._connection is not None:
            self._connection.abort()

    async def _dial(self, addresses: list[egress.Address], tls: TlsMode) -> RelayConnection:
        """Connect, and shake hands first when `tls` is implicit."""
        deadline_s = self._settings.deadlines.connect_s
        sock, self._address = await egress.connect(addresses, deadline_s)
        self._note(Stage.CONNECT, f"connected to {self._address.sockaddr[0]} port {self._settings.port}")
        loop = asyncio.get_running_loop()
        connection = RelayConnection(self._settings.ehlo_name)
        if tls is not TlsMode.IMPLICIT:
            await loop.create_connection(lambda: connection, sock=sock)
            return connection
        try:
            context = await self._load_context()
            async with asyncio.timeout(deadline_s):
                await loop.create_connection(
                    lambda: connection, sock=sock, ssl=context, server_hostname=self._settings.host
                )
        except (OSError, ssl.SSLError, TimeoutError) as error:
            sock.close()
            raise handshake_trouble(error) from None
        except BaseException:
            sock.close()
            raise
        connection.is_encrypted = True
        self._check_pin(connection)
        self._note(Stage.TLS, f"TLS from the start, {self._trust}")
        return connection

    async def _banner(self, addresses: list[egress.Address], *, probe: bool) -> Answer:
        """Wait for the banner. Silence on a plain connection is looked into: many TLS ports wait for a ClientHello."""
        assert self._connection is not None
        deadlines = self._settings.deadlines
        if self._tls is TlsMode.IMPLICIT or not probe:
            return await self._connection.wait(deadlines.command_s)
        silence_s = deadlines.command_s if self._settings.port in _PLAIN_PORTS else deadlines.tls_probe_s
        waiting = asyncio.ensure_future(self._connection.wait(deadlines.command_s))
        probing = asyncio.ensure_future(self._probe_after(silence_s, addresses))
        try:
            await asyncio.wait([waiting, probing], return_when=asyncio.FIRST_COMPLETED)
            if waiting.done() and _is_silence(waiting):
                await asyncio.wait([probing], timeout=deadlines.tls_probe_s)
            if not probing.done() or (encrypted := probing.result()) is None:
                return await waiting
            self._connection.abort()
            self._connection = encrypted
        finally:
            for task in (waiting, probing):
                task.cancel()
            await asyncio.gather(waiting, probing, return_exceptions=True)
        return await self._connection.wait(deadlines.command_s)

    async def _probe_after(self, silence_s: float, addresses: list[egress.Address]) -> RelayConnection | None:
        assert self._connection is not None
        await asyncio.sleep(silence_s)
        return await self._probe_tls(addresses) if not self._connection.bytes_received else None

    async def _probe_tls(self, addresses: list[egress.Address]) -> RelayConnection | None:
        """Return an encrypted connection if that port speaks TLS and AUTO allows it; None if it does not.

        Raises Trouble where TLS is spoken but not wanted, or not to be trusted.
        """
        recorder, self._recorder = self._recorder, None
        try:
            connection = await self._dial(addresses, TlsMode.IMPLICIT)
        except Trouble as trouble:
            if not speaks_tls(trouble):
                return None
            connection, untrusted = None, trouble
        finally:
            self._recorder = recorder
        if self._settings.tls is not TlsMode.AUTO:
            if connection is not None:
                connection.abort()
            words = "no banner, but a TLS handshake is answered"
            raise local(Stage.BANNER, "plain_port_speaks_tls", "4.7.5", words)
        self._use(TlsMode.IMPLICIT)
        if connection is None:
            raise untrusted
        self._note(Stage.TLS, f"TLS from the start (found out), {self._trust}")
        return connection

    async def _ehlo(self) -> None:
        assert self._connection is not None
        self._connection.machine.ehlo()
        answer = await self._connection.wait(self._settings.deadlines.command_s)
        self._expect(answer, Stage.EHLO)

    async def _starttls(self) -> None:
        connection, deadlines = self._connection, self._settings.deadlines
        assert connection is not None
        if "STARTTLS" not in connection.machine.extensions:
            raise local(Stage.TLS, "starttls_not_offered", "4.7.4", "the server does not offer STARTTLS")
        connection.machine.starttls()
        answer = await connection.wait(deadlines.command_s)
        if answer.reply.code != 220:
            raise refused(Stage.TLS, answer.reply)
        await connection.start_tls(await self._load_context(), self._settings.host, deadlines.connect_s)
        self._check_pin(connection)
        self._note(Stage.TLS, f"STARTTLS, {self._trust}")
        await self._ehlo()

    async def _login(self) -> None:
        settings, connection = self._settings, self._connection
        assert connection is not None and self._address is not None
        if self._next_token is None and not (settings.user and settings.password):
            return
        if not (connection.is_encrypted or settings.cleartext_auth or self._address.is_loopback):
            words = "the connection is not encrypted; nothing secret was sent"
            raise local(Stage.AUTH, "auth_cleartext_forbidden", "4.7.0", words)
        machine = connection.machine
        if not machine.offers:
            raise local(Stage.AUTH, "auth_not_offered", "4.7.0", "the server does not offer AUTH")
        try:
            if self._next_token is not None:
                token = await self._fetched(self._next_token)
                machine.authenticate_by_token(settings.user, token.reveal(), settings.host, settings.port)
            elif settings.password:
                machine.authenticate(settings.user, settings.password.reveal())
        except ValueError:
            words = f"the server offers {' '.join(sorted(machine.offers))} only"
            code = "auth_mechanism_unsupported" if self._next_token is None else "token_not_offered"
            raise local(Stage.AUTH, code, "4.7.0", words) from None
        try:
            answer = await connection.wait(settings.deadlines.command_s)
        except Trouble as trouble:  # It may show what the server said.
            raise trouble.worded(without_secrets(trouble.reply.text, machine.secrets_sent)) from None
        words = answer.reply.text + (f" ({machine.token_refusal})" if machine.token_refusal else "")
        reply = replace(answer.reply, text=without_secrets(words, machine.secrets_sent))
        if self._next_token is not None and code_of(Stage.AUTH, reply) == "auth_rejected":
            raise Trouble(Stage.AUTH, "token_rejected", reply, from_server=True)
        self._expect(replace(answer, reply=reply), Stage.AUTH)

    async def _fetched(self, next_token: Callable[[], Awaitable[Token]]) -> SecretText:
        token = await next_token()
        self._note(Stage.AUTH, f"a token was issued, good for {token.expires_at - token.fetched_at:.0f} s")
        return token.text

    def _check_pin(self, connection: RelayConnection) -> None:
        try:
            check_pin(connection.peer_certificate, self._settings.pins)
        except BaseException:
            connection.abort()
            raise

    @property
    def _trust(self) -> str:
        return "key pinned" if self._settings.pins else "certificate verified"

    async def _load_context(self) -> ssl.SSLContext:
        try:
            return await asyncio.to_thread(self._context)
        except OSError as error:  # ssl.SSLError is one.
            raise local(
                Stage.TLS, "tls_setup_failed", "4.7.5", f"certificates cannot be used: {error.strerror}"
            ) from None

    def _expect(self, answer: Answer, stage: Stage) -> None:
        if not answer.reply.is_positive:
            raise refused(stage, answer.reply)
        self._note(stage, str(answer.reply))

    def _use(self, tls: TlsMode) -> None:
        self._tls = tls
        if self._recorder is not None:
            self._recorder.tls = tls

    def _note(self, stage: Stage, words: str) -> None:
        if self._recorder is not None:
            self._recorder.note(stage, words)


def _is_silence(waiting: asyncio.Future[Answer]) -> bool:
    error = waiting.exception()
    return isinstance(error, Trouble) and error.code == "timeout"


def _first_mode(settings: RelaySettings) -> TlsMode:
    if settings.tls is TlsMode.AUTO:
        return TlsMode.IMPLICIT if settings.port == 465 else TlsMode.STARTTLS
    return settings.tls
