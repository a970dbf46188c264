"""Refresh tokens as they are stored, for whoever logs in with them: a server may take one only once (SQL)."""

from collections.abc import Callable
from uuid import uuid4

from mailward.db.database import Database, Transaction
from mailward.errors import NotFound
from mailward.ids import ProviderId, UserId
from mailward.provider.commands import Providers
from mailward.provider.configuring import RotateRefreshToken
from mailward.provider.options import REFRESH_TOKEN
from mailward.secretbox import SecretText

_TURN_US = 120_000_000  # twice what a fetch may take, for clocks that differ

_TAKE_TURN = """
    INSERT INTO refresh_token_turns (provider_id, holder, until_us) VALUES (:id, :holder, :until_us)
        ON CONFLICT (provider_id) DO UPDATE SET holder = :holder, until_us = :until_us
     WHERE refresh_token_turns.holder = :holder OR refresh_token_turns.until_us <= :now_us
"""

_END_TURN = "DELETE FROM refresh_token_turns WHERE provider_id = :id AND holder = :holder"


def take_turn(tx: Transaction, id: ProviderId, holder: str, now_us: int) -> bool:
    """Give `holder` the turn to use the refresh token of `id`, unless another has it; return whether it has it now."""
    return tx.execute(_TAKE_TURN, id=id, holder=holder, now_us=now_us, until_us=now_us + _TURN_US) == 1


def end_turn(tx: Transaction, id: ProviderId, holder: str) -> None:
    """Let another have the turn, if it is `holder` who has it."""
    tx.execute(_END_TURN, id=id, holder=holder)


class StoredRefreshTokens:
    """What transport.tokens.RefreshTokens asks for."""

    def __init__(self, providers: Providers, database: Database, now_us: Callable[[], int], editor: UserId) -> None:
        """`editor`: who replaces them, in the events."""
        self._providers = providers
        self._database = database
        self._now_us = now_us
        self._editor = editor
        self._holder = uuid4().hex

    async def take_turn(self, id: ProviderId) -> bool:
        """See RefreshTokens. Raises Unavailable."""
        return await self._database.write(take_turn, id, self._holder, self._now_us())

    async def end_turn(self, id: ProviderId) -> None:
        """See RefreshTokens. Raises Unavailable."""
        await self._database.write(end_turn, id, self._holder)

    async def read(self, id: ProviderId) -> SecretText | None:
        """Return the one of `id`, None when it has none. Raises SecretError, Unavailable."""
        stored = await self._providers.stored(id)
        return None if stored is None else self._providers.open_secrets(stored).get(REFRESH_TOKEN)

    async def replace(self, id: ProviderId, old: SecretText, new: SecretText) -> None:
        """Store `new` unless something else than `old` is there by now. Raises SecretError, Unavailable."""
        stored = await self._providers.stored(id)
        if stored is None or self._providers.open_secrets(stored).get(REFRESH_TOKEN) != old:
            return
        [sealed] = self._providers.seal({REFRESH_TOKEN: new}, id).values()
        try:
            await self._providers.do(RotateRefreshToken(id, stored.secrets[REFRESH_TOKEN], sealed), self._editor)
        except NotFound:
            pass  # It was removed in this moment.
