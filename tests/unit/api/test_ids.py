"""Error ids lead from a caller's complaint to one line."""

import re
from collections import Counter
from pathlib import Path

import mailward

SOURCES = Path(mailward.__file__).parent
_ID = re.compile(r'"([A-Z]{3,}-[A-Za-z0-9]{4,})"')


def test_an_error_id_of_the_api_and_the_access_room_occurs_once() -> None:
    """In these two rooms ids are also handed to `zitadel_error`, not only to the kinds of MailwardError."""
    files = [file for room in ("api", "access") for file in (SOURCES / room).glob("*.py")]
    ids = Counter(id for file in files for id in _ID.findall(file.read_text()))

    assert {"AUTH-toLo1", "AUTH-7fs1e", "AUTHZ-cdgFk", "AUTH-5mWD2", "AUTH-Bs7Ds"} <= ids.keys()
    assert [id for id, count in ids.items() if count > 1] == []
