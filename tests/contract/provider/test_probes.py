"""A provider that stopped working shows before mail needs it."""

from typing import Any

from mailward import metrics
from mailward.ids import ProviderId
from mailward.provider.probes import Probes
from mailward.provider.routing import Hop
from mailward.secretbox import SecretText
from mailward.transport import smtp
from mailward.transport.base import HTTPRelay
from tests.support.gateway import relay_at
from tests.support.smtp_servers import Script, scripted_server


def up(provider: str) -> Any:
    return metrics.provider_up.labels(provider).value


async def test_a_revoked_password_shows_without_any_mail() -> None:
    script: Script = {
        "EHLO": b"250-scripted\r\n250 AUTH PLAIN\r\n",
        "AUTH": [b"235 2.7.0 ok\r\n", b"535 5.7.8 revoked\r\n", b"235 2.7.0 ok\r\n"],
    }
    async with scripted_server(script) as server:
        relay = relay_at(server.port, provider_id=ProviderId("1"), user="mailer", password=SecretText("right"))
        probes = Probes(lambda: (Hop(settings=relay),), smtp.login, 60)

        found = []
        for _ in range(3):
            await probes.take()
            found.append(up("1"))

    assert found == [1, 0, 1]
    assert {command[:4] for command in server.commands} == {"EHLO", "AUTH", "QUIT"}


async def test_one_that_fails_keeps_no_other_from_being_tried() -> None:
    async with scripted_server({"BANNER": [b"554 5.3.2 no\r\n"]}) as broken, scripted_server({}) as good:
        hook = HTTPRelay(provider_id=ProviderId("3"), endpoint="http://[::1]:1/", signing_key=SecretText("k"))
        plan = (
            Hop(settings=relay_at(broken.port, provider_id=ProviderId("2"))),
            Hop(settings=hook),
            Hop(settings=relay_at(good.port, provider_id=ProviderId("4"))),
        )

        await Probes(lambda: plan, smtp.login, 60).take()

    assert (up("2"), up("4")) == (0, 1)
