"""Builders for email providers in tests: values that no test has to name."""

from mailward.ids import ProviderId
from mailward.provider.events import (
    Event,
    HTTPConfigAdded,
    ProviderActivated,
    SMTPConfigAdded,
)
from mailward.provider.payloads import Sealed
from mailward.provider.state import HTTPConfig, SMTPConfig

A, B, C = ProviderId("298765432109880001"), ProviderId("298765432109880002"), ProviderId("298765432109880003")
UNKNOWN = ProviderId("100000000000000001")
PASSWORD, NEW_PASSWORD, KEY, NEW_KEY = Sealed("cGFzcw=="), Sealed("bmV3"), Sealed("a2V5"), Sealed("a2V5Mg==")


def smtp(
    *,
    sender_address: str = "no-reply@example.com",
    sender_name: str = "Example",
    host: str = "smtp.example.com:587",
    tls: bool = True,
    user: str = "mailer",
    reply_to: str = "help@example.com",
    description: str = "main relay",
) -> SMTPConfig:
    return SMTPConfig(
        sender_address=sender_address,
        sender_name=sender_name,
        host=host,
        tls=tls,
        user=user,
        reply_to=reply_to,
        description=description,
    )


def http(*, endpoint: str = "https://hook.example.com/mail", description: str = "hook") -> HTTPConfig:
    return HTTPConfig(endpoint=endpoint, description=description)


def added(id: ProviderId, config: SMTPConfig | None = None, password: Sealed | None = PASSWORD) -> Event:
    config = config or smtp()
    return SMTPConfigAdded(
        id=id,
        description=config.description,
        sender_address=config.sender_address,
        sender_name=config.sender_name,
        reply_to=config.reply_to,
        tls=config.tls,
        host=config.host,
        user=config.user,
        password=password,
    )


def http_added(id: ProviderId, config: HTTPConfig | None = None) -> Event:
    config = config or http()
    return HTTPConfigAdded(id=id, endpoint=config.endpoint, description=config.description, signing_key=KEY)


def activated(id: ProviderId) -> Event:
    return ProviderActivated(id)
