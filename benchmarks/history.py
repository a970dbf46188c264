"""Does cost grow with history? The calls of admin.py on an empty instance and on one with 100,000 configurations and
1,000,000 events, in turns; prints full ÷ empty.

    .venv/bin/python benchmarks/history.py [--configs 100000] [--events 1000000] [--rounds 3] [--calls 2000]
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.admin import measure  # noqa: E402
from mailward import config  # noqa: E402
from mailward.db.database import Transaction  # noqa: E402
from mailward.eventstore import store  # noqa: E402
from mailward.eventstore.event import NewEvent  # noqa: E402
from mailward.ids import InstanceId, ProviderId  # noqa: E402
from mailward.provider import events  # noqa: E402
from mailward.provider.projection import EmailProvidersProjection  # noqa: E402
from mailward.store import now_us, open_store  # noqa: E402
from tests.support.program import Program  # noqa: E402

_BATCH = 2_000


def append(tx: Transaction, instance: InstanceId, first: int, count: int, configs: int) -> None:
    """Append events number `first` and on: additions until there are `configs`, then changes in turn."""
    new: list[events.Event] = []
    for number in range(first, first + count):
        id = ProviderId(f"{200_000_000_000_000_000 + number % configs}")
        if number < configs:
            new.append(events.SMTPConfigAdded(id=id, sender_address="a@example.com", sender_name="A", host="mail:25"))
        else:
            new.append(events.SMTPConfigChanged(id=id, description=f"change {number}"))
    version = store.version(tx, events.AGGREGATE_TYPE, instance, lock=True)
    store.append(
        tx,
        events.AGGREGATE_TYPE,
        instance,
        version,
        [NewEvent(events.type_of(event), events.to_payload(event)) for event in new],
        editor="SYSTEM",
        at_us=now_us(),
        projections=(EmailProvidersProjection(),),
    )


async def fill(data_dir: Path, configs: int, count: int) -> None:
    """Write the history, through the event store and its projection."""
    settings = config.load(None, {"data_dir": str(data_dir)}, {}).settings
    async with open_store(settings) as opened:
        for first in range(0, count, _BATCH):
            size = min(_BATCH, count - first)
            await opened.database.write(append, opened.access.instance, first, size, configs)
            if first % 100_000 == 0:
                print(f"  {first:,} events", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=2_000)
    args = parser.parse_args()
    figures: dict[str, dict[str, list[float]]] = {"empty": {}, "full": {}}
    with tempfile.TemporaryDirectory(dir=ROOT / "benchmarks") as folder:
        start = time.monotonic()
        asyncio.run(fill(Path(folder) / "full", args.configs, args.events))
        print(f"filled in {time.monotonic() - start:.0f} s", file=sys.stderr)
        for number in range(args.rounds):
            for name in ("empty", "full"):
                data_dir = Path(folder) / (f"empty{number}" if name == "empty" else "full")
                with Program(data_dir) as program:
                    for call, cost in measure(program, args.calls, 10, [program.process.pid]).items():
                        figures[name].setdefault(call, []).append(cost.cpu_us)
    print(f"{'call':32} {'empty us':>9} {'full us':>9} {'full / empty':>13}")
    for call, empty in figures["empty"].items():
        full = figures["full"][call]
        ratio = statistics.median(b / a for a, b in zip(empty, full, strict=True))
        print(f"{call:32} {statistics.median(empty):9.0f} {statistics.median(full):9.0f} {ratio:12.2f}x")


if __name__ == "__main__":
    main()
