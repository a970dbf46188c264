"""The built program answers the recorded sessions as ZITADEL did."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mailward.access.access import open_access
from mailward.access.roles import TokenRole
from mailward.db.database import open_database
from mailward.ids import IdSource
from tests.support.databases import Templates, drop_postgres
from tests.support.golden.assertions import ServiceKey
from tests.support.golden.other_protocols import Protocol, translate
from tests.support.golden.player import Player, Session
from tests.support.golden.sinks import Sinks
from tests.support.golden.target import Target
from tests.support.postgres import PostgresServer
from tests.support.program import Program

SESSIONS = sorted((Path(__file__).parent.parent / "golden").glob("*.json"))
DAY_US = 86_400_000_000


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def postgres_url(request: pytest.FixtureRequest, templates: Templates) -> Iterator[str]:
    """A database for all sessions, each of which empties it first; "" for the one in the data dir."""
    if request.param == "sqlite":
        yield ""
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = templates.new_postgres(server)
    yield url
    drop_postgres(server, url)


@pytest.fixture(scope="module")
def player(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Player]:
    """A player before a running program whose callers are those of the recordings."""
    folder = tmp_path_factory.mktemp("golden")
    sinks = Sinks(folder)
    database = ["--database", postgres_url] if postgres_url else []
    # The replayer names the server by its address, the recordings by its name.
    with Program(folder / "data", *database, "--external-domain", "localhost,127.0.0.1") as program:
        tokens = {
            "owner": program.owner,
            "viewer": program.token("viewer"),
            "nobody": program.token("sender", "nobody"),
        }
        tokens["expired"] = asyncio.run(expired_token(postgres_url or program.data_dir / "mailward.db"))
        target = Target.at("127.0.0.1", program.http_port, tokens)
        key = ServiceKey(program.cli("key", "create", "--role", "owner", "--name", "service").stdout)
        client = program.cli("client", "create", "--role", "owner", "--name", "client").stdout.strip()
        yield Player(target, sinks, key, client)
        target.close()
    sinks.close()


async def expired_token(url: str | Path) -> str:
    """Make a token yesterday that was good for a moment."""
    database = await open_database(url, migrate=False)
    yesterday = time.time_ns() // 1000 - DAY_US
    access = await open_access(database, IdSource(255, lambda: yesterday // 1000), lambda: yesterday)
    made = await access.create_token(TokenRole.OWNER, "late", expires_in_us=1)
    await database.aclose()
    return made.text


@pytest.mark.parametrize("file", SESSIONS, ids=lambda file: str(file.stem))
def test_a_recorded_session_is_answered_as_it_was(player: Player, file: Path) -> None:
    session = Session.load(file)

    differences = player.play(session)

    if differences:
        pytest.fail("\n".join([session.about, *differences]), pytrace=False)


#: Sessions of which every call is played over gRPC and gRPC-Web too.
_NUMBERS = ("01", "11", "12", "14", "16", "21", "60", "90", "93", "97", "98", "99")
WHOLE_FAMILIES = [file for file in SESSIONS if file.stem[:2] in _NUMBERS]


@pytest.mark.parametrize("protocol", ["grpc", "grpcweb"])
@pytest.mark.parametrize("file", WHOLE_FAMILIES, ids=lambda file: str(file.stem))
def test_other_protocols_answer_as_rest_does(player: Player, file: Path, protocol: Protocol) -> None:
    session = Session.load(file)
    steps = [translate(step, protocol) for step in session.steps]
    assert any(protocol in step for step in steps)

    differences = player.play(replace(session, steps=steps))

    if differences:
        pytest.fail("\n".join([session.about, *differences]), pytrace=False)


def test_there_are_sessions() -> None:
    assert len(SESSIONS) >= 25
