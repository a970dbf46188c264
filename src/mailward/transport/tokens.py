"""The tokens with which a process logs in: one fetch for all who wait, renewed before they expire, also when idle."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from mailward import log
from mailward.errors import MailwardError
from mailward.ids import ProviderId
from mailward.secretbox import SecretText
from mailward.transport import egress
from mailward.transport.base import OAuthSettings, RelaySettings
from mailward.transport.outcome import Stage
from mailward.transport.token_fetch import fetch
from mailward.transport.token_request import Granted
from mailward.transport.trouble import Trouble, local

_LOOK_S = 1.0  # how often `keep_fresh` looks
_LEAD_S = 300.0  # a token is renewed this long before its end, or in the last quarter of a shorter life
_MARGIN_S = 30.0  # a token is not used so shortly before its end, or in the last tenth of a shorter life
_YOUNG_S = 30.0  # of a token younger than this, it is not the age that a server minds
_PATIENCE_S = 5.0  # a failure is everybody's answer for this long, so that a queue does not storm the endpoint
_FETCH_S = 60.0  # a fetch with a refresh token is given up then; see refresh_tokens._TURN_US
_TURN_PATIENCE_S, _TURN_LOOK_S = 30.0, 0.2  # how long another process's turn is waited for, and how often it is looked
_RETRY_S, _RETRY_LIMIT_S = 10.0, 300.0  # between attempts of `keep_fresh`, doubling


class RefreshTokens(Protocol):
    """Where refresh tokens live. Other nodes, and operators, replace them too.

    A server may take a refresh token only once, and revoke all that came of it when it is shown again; so whoever uses
    one has the turn from the reading of it until its successor is stored. A turn is a process's.
    """

    async def take_turn(self, id: ProviderId) -> bool:
        """Take the turn, and tell whether that went well; others wait until `end_turn`. Raises MailwardError."""
        ...

    async def end_turn(self, id: ProviderId) -> None:
        """Let others have the turn. Raises MailwardError."""
        ...

    async def read(self, id: ProviderId) -> SecretText | None:
        """Return the one of `id`, None when it has none. Raises MailwardError."""
        ...

    async def replace(self, id: ProviderId, old: SecretText, new: SecretText) -> None:
        """Store `new` unless something else than `old` is there by now. Raises MailwardError."""
        ...


@dataclass(frozen=True, slots=True)
class Token:
    """A token for one login. Times in Unix seconds."""

    text: SecretText
    fetched_at: float
    expires_at: float

    def is_good(self, now: float) -> bool:
        """Tell whether a login may be begun with it."""
        return now < self.expires_at - min(_MARGIN_S, (self.expires_at - self.fetched_at) / 10)

    def is_due(self, now: float) -> bool:
        """Tell whether it is time to renew it."""
        return now >= self.expires_at - min(_LEAD_S, (self.expires_at - self.fetched_at) / 4)


@dataclass(slots=True)
class _Entry:
    """What is known of one login."""

    token: Token | None = None
    fetching: "asyncio.Task[Token | Trouble] | None" = None
    trouble: Trouble | None = None  #: of the last fetch
    failed_at: float = 0.0
    failures: int = 0  #: in a row

    def may_retry(self, now: float) -> bool:
        wait_s = min(_RETRY_S * 2 ** min(self.failures - 1, 10), _RETRY_LIMIT_S) if self.failures else 0.0
        return now >= self.failed_at + wait_s


class Tokens:
    """Belongs to one event loop. One per process: tests, probes and deliveries share the tokens."""

    def __init__(
        self,
        refresh_tokens: RefreshTokens,
        *,
        check: egress.AddressCheck = egress.allow_all,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`check`: the egress policy. `clock`: Unix seconds."""
        self._refresh_tokens = refresh_tokens
        self._check = check
        self._clock = clock
        self._entries: dict[tuple[ProviderId, OAuthSettings], _Entry] = {}
        self._unsaved: dict[ProviderId, tuple[SecretText, SecretText]] = {}  # old and new, which could not be stored
        #: In which the fetches with one refresh token stand: a turn is one process's, and it may have several.
        self._lines: dict[ProviderId, asyncio.Lock] = {}
        self._keeper: asyncio.Task[None] | None = None

    async def get(self, settings: RelaySettings, *, fresh: bool = False) -> Token:
        """Return a token for the login that `settings` describe. Raises Trouble of the stage AUTH.

        `fresh`: one that the server issues now, for whoever wants to know whether it does.
        """
        entry, now = self._entry(settings), self._clock()
        if not fresh and entry.token is not None and entry.token.is_good(now):
            return entry.token
        if not fresh and entry.fetching is None and entry.trouble and now < entry.failed_at + _PATIENCE_S:
            raise entry.trouble.with_traceback(None)
        # Whoever stops waiting does not stop the fetch: others wait too, and a new refresh token must not be lost.
        got = await asyncio.shield(self._fetch(entry, settings))
        if isinstance(got, Trouble):
            raise got.with_traceback(None)
        return got

    def discard(self, settings: RelaySettings, token: Token) -> bool:
        """Forget `token`, which the mail server refused; return whether another one may do better."""
        entry = self._entry(settings)
        if entry.token is token:
            if self._clock() - token.fetched_at < _YOUNG_S:
                return False
            entry.token = None
        return True

    def start(self, wanted: Callable[[], Iterable[RelaySettings]]) -> None:
        """Keep the tokens of the logins that are `wanted` fresh, until `stop`."""
        self._keeper = asyncio.get_running_loop().create_task(self.keep_fresh(wanted), name="mailward-tokens")

    async def stop(self, within_s: float) -> None:
        """Stop; fetches under way have `within_s` to end, because what they bring may be the next refresh token."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if tasks := [entry.fetching for entry in self._entries.values() if entry.fetching is not None]:
            _, late = await asyncio.wait(tasks, timeout=within_s)
            for task in late:
                task.cancel()

    async def keep_fresh(self, wanted: Callable[[], Iterable[RelaySettings]]) -> None:
        """Look at the tokens every second; see `start`."""
        while True:
            for id, (old, new) in list(self._unsaved.items()):
                if not self._lines[id].locked():  # Otherwise it is being used.
                    async with self._lines[id]:
                        await self._save(id, old, new)
                        await self._end_turn(id)
            for settings in wanted():
                entry, now = self._entry(settings), self._clock()
                if (entry.token is None or entry.token.is_due(now)) and entry.may_retry(now):
                    self._fetch(entry, settings)
            await asyncio.sleep(_LOOK_S)

    def _entry(self, settings: RelaySettings) -> _Entry:
        """Return what is known of a login; what was known of the provider with other settings is forgotten."""
        assert settings.oauth is not None
        key = (settings.provider_id, settings.oauth)
        entry = self._entries.get(key)
        if entry is None:
            for other in [other for other in self._entries if other[0] == key[0]]:
                if self._entries[other].fetching is None:
                    del self._entries[other]
            entry = self._entries[key] = _Entry()
        return entry

    def _fetch(self, entry: _Entry, settings: RelaySettings) -> "asyncio.Task[Token | Trouble]":
        if entry.fetching is None:
            entry.fetching = asyncio.get_running_loop().create_task(self._renew(entry, settings))
        return entry.fetching

    async def _renew(self, entry: _Entry, settings: RelaySettings) -> Token | Trouble:
        id = settings.provider_id
        try:
            token = await self._ask(settings)
        except Trouble as trouble:
            entry.trouble, entry.failed_at, entry.failures = trouble, self._clock(), entry.failures + 1
            log.token_failed(id, code=trouble.code, text=trouble.reply.text, advice=trouble.advice)
            return trouble
        else:
            entry.token, entry.trouble, entry.failures = token, None, 0
            log.token_fetched(id, expires_at=token.expires_at)
            return token
        finally:
            entry.fetching = None

    async def _ask(self, settings: RelaySettings) -> Token:
        if settings.oauth is not None and settings.oauth.grant == "refresh_token":
            granted = await self._refresh(settings)
        else:
            granted = await fetch(settings, None, self._check)
        now = self._clock()
        return Token(granted.access_token, now, now + granted.lifetime_s)

    async def _refresh(self, settings: RelaySettings) -> Granted:
        id = settings.provider_id
        line = self._lines.setdefault(id, asyncio.Lock())
        await self._take_turn(id, line)
        try:
            refresh_token = await self._refresh_token(id)
            try:
                async with asyncio.timeout(_FETCH_S):
                    granted = await fetch(settings, refresh_token, self._check)
            except TimeoutError:
                words = f"no token within {_FETCH_S:g} s"
                raise local(Stage.AUTH, "token_unavailable", "4.4.2", words) from None
            if refresh_token and granted.refresh_token and granted.refresh_token != refresh_token:
                stored, _ = self._unsaved.get(id, (refresh_token, None))
                await self._save(id, stored, granted.refresh_token)
            return granted
        finally:
            try:
                await self._end_turn(id)
            finally:
                line.release()

    async def _take_turn(self, id: ProviderId, line: asyncio.Lock) -> None:
        """Stand in `line` and take the turn. Raises Trouble; then we are out of the line."""
        try:
            async with asyncio.timeout(_TURN_PATIENCE_S):
                await line.acquire()
                try:
                    while True:
                        # With one that could not be saved, the turn was not ended.
                        if id in self._unsaved or await self._refresh_tokens.take_turn(id):
                            return
                        await asyncio.sleep(_TURN_LOOK_S)  # Another process has it.
                except BaseException:
                    line.release()
                    raise
        except TimeoutError:
            words = "somebody else uses the refresh token, or died doing so less than two minutes ago"
            raise local(Stage.AUTH, "token_unavailable", "4.3.0", words) from None
        except MailwardError as error:
            raise local(Stage.AUTH, "token_unavailable", "4.3.0", f"no refresh token: {error.message}") from None

    async def _end_turn(self, id: ProviderId) -> None:
        """End it, unless what others would read is used up. When that fails, it ends by itself."""
        if id not in self._unsaved:
            with contextlib.suppress(MailwardError):
                await self._refresh_tokens.end_turn(id)

    async def _refresh_token(self, id: ProviderId) -> SecretText | None:
        if id in self._unsaved:
            return self._unsaved[id][1]
        try:
            return await self._refresh_tokens.read(id)
        except MailwardError as error:
            raise local(Stage.AUTH, "token_unavailable", "4.3.0", f"no refresh token: {error.message}") from None

    async def _save(self, id: ProviderId, old: SecretText, new: SecretText) -> None:
        """Store a new refresh token; when that fails, it is tried again by `keep_fresh`, and good meanwhile."""
        try:
            await self._refresh_tokens.replace(id, old, new)
        except MailwardError as error:
            self._unsaved[id] = (old, new)
            log.refresh_token_unsaved(id, reason=error.message)
        else:
            self._unsaved.pop(id, None)
