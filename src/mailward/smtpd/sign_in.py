"""What becomes of the credentials that a client offers (RFC 4954)."""

import asyncio

from mailward import log
from mailward.access.standing import Standing
from mailward.errors import TooManyFailures
from mailward.smtp.auth import Credentials
from mailward.smtp.reply import Reply
from mailward.smtpd.answers import BAD_CREDENTIALS, NO_VERDICT
from mailward.smtpd.door import House


async def verdict(house: House, offered: Credentials, peer: str, *, within_s: float) -> Standing | Reply:
    """Return who the client is, or the answer that refuses it; BAD_CREDENTIALS when that is the client's fault."""
    standing: Standing | None = None
    try:
        async with asyncio.timeout(within_s):
            if offered.authzid in ("", offered.authcid):
                standing = await house.authenticate(offered.authcid, offered.password, peer)
            else:
                await house.refuse(peer, "another authorization identity")
    except TooManyFailures as refusal:
        return Reply(421, "4.7.0", refusal.message)
    except Exception as error:
        log.authentication_failed(door="smtp", peer=peer, reason=type(error).__name__)
        return NO_VERDICT
    return BAD_CREDENTIALS if standing is None else standing
