"""Stored content on both engines."""

from mailward.db.database import Database, Transaction
from mailward.ids import EPOCH_MS, MessageId
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


async def test_the_oldest_content_expires_in_batches(database: Database) -> None:
    """Only what is older than asked, and no more at once than asked."""
    await database.write(_insert, [_id_at(second) for second in range(1, 6)])
    before_us = (EPOCH_MS + 4 * _SECOND_MS) * 1000

    assert await database.write(content.expire, before_us, 2) == 2
    assert await database.write(content.expire, before_us, 2) == 1
    assert await database.write(content.expire, before_us, 2) == 0
    assert await database.read(content.read, _id_at(3)) is None
    assert await database.read(content.read, _id_at(4)) is not None
