"""Stored content on both engines."""

from mailward.db.database import Database, Transaction
from mailward.ids import MessageId
from mailward.message import content

_SECOND_MS = 1_000


def _id_at(second: int) -> MessageId:
    return MessageId(((second * _SECOND_MS) << 20) + 5)


def _insert(tx: Transaction, ids: list[MessageId]) -> None:
    for id in ids:
        tx.execute("INSERT INTO contents (id, body) VALUES (:id, :body)", id=id, body=b"body\0\xff")


async def test_content_is_read_back(database: Database) -> None:
    """Byte for byte, or not at all."""
    await database.write(_insert, [_id_at(1)])

    assert await database.read(content.read, _id_at(1)) == b"body\0\xff"
    assert await database.read(content.read, _id_at(2)) is None
