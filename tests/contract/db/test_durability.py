"""What was acknowledged survives the death of the program."""

import subprocess
import sys

from mailward.db.database import Transaction, open_database

# Writes until it is killed, and says after each commit what is promised.
_PROGRAM = """
import asyncio, sys
from mailward.db.database import open_database
from tests.contract.db.test_durability import put, put_all

async def main():
    database = await open_database(sys.argv[1])
    async def write(kind, number):
        key = f"{kind}{number}"
        await (database.write(put, key) if kind == "w" else database.batch(put_all, key))
        print(key, flush=True)
    for number in range(1_000_000):
        await asyncio.gather(write("w", number), write("b", number), write("B", number))

asyncio.run(main())
"""


def put(tx: Transaction, key: str) -> None:
    tx.execute("INSERT INTO meta (key, value) VALUES (:key, '')", key=key)


def put_all(tx: Transaction, items: list[str]) -> list[None]:
    for item in items:
        put(tx, item)
    return [None] * len(items)


def keys(tx: Transaction) -> set[str]:
    return {row[0] for row in tx.fetch("SELECT key FROM meta")}


async def test_every_acknowledged_row_is_there_after_a_kill(database_url: str) -> None:
    with subprocess.Popen([sys.executable, "-c", _PROGRAM, database_url], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        acknowledged = [process.stdout.readline().strip() for _ in range(300)]
        process.kill()
        acknowledged += [line.strip() for line in process.stdout if line.endswith("\n")]

    database = await open_database(database_url)
    stored = await database.read(keys)
    await database.aclose()

    assert len(acknowledged) >= 300
    assert set(acknowledged) <= stored
