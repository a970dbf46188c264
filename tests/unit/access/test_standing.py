"""What an open session knows of its token, whichever of several looks at the store comes back first."""

from typing import cast

from mailward.access.queries import Grant
from mailward.access.standing import Standings
from mailward.access.tokens import Caller
from mailward.db.database import Database
from mailward.ids import UserId

GRANT = Grant(Caller(UserId("1"), "2", "app", frozenset(), frozenset({"message.send"}), False), None, for_api=True)


def test_what_an_earlier_look_found_does_not_undo_what_a_later_one_did() -> None:
    standings = Standings(cast(Database, None))
    standing = standings.hold(b"digest")
    early, late = standings.reading(), standings.reading()

    standing.learn(None, late)
    standing.learn(GRANT, early)

    assert standing.grant is None


def test_sessions_with_one_token_have_one_standing_as_long_as_there_are_any() -> None:
    standings = Standings(cast(Database, None))
    standing = standings.hold(b"digest")
    standing.learn(GRANT, standings.reading())

    assert standings.hold(b"digest") is standing
    del standing
    assert standings.hold(b"digest").grant is None
