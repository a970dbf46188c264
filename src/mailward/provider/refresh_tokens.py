"""Refresh tokens as they are stored, for whoever logs in with them: a server may replace one each time it is used."""

from mailward.errors import NotFound
from mailward.ids import ProviderId, UserId
from mailward.provider.commands import Providers
from mailward.provider.configuring import RotateRefreshToken
from mailward.provider.options import REFRESH_TOKEN
from mailward.secretbox import SecretText


class StoredRefreshTokens:
    """What transport.tokens.RefreshTokens asks for."""

    def __init__(self, providers: Providers, editor: UserId) -> None:
        """`editor`: who replaces them, in the events."""
        self._providers = providers
        self._editor = editor

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
