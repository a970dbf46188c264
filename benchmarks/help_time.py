"""How long `mailward --help` takes, as a shell sees it.

    .venv/bin/python benchmarks/help_time.py [--runs 20] [--limit-ms 300]

Prints the least, median and greatest wall time in milliseconds, of `mailward --help` and, to tell our share from
Python's, of `python -c pass`. Exits 1 when the median is over the limit.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path


def timed(command: list[str], runs: int) -> list[float]:
    """Return the wall time of each run in milliseconds; one run before them warms the caches."""
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append((time.perf_counter() - started) * 1000)
    return times[1:]


def main() -> int:
    parser = argparse.ArgumentParser(description="Time mailward --help.")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--limit-ms", type=float, default=300.0)
    options = parser.parse_args()
    program = str(Path(sys.executable).with_name("mailward"))
    ours = timed([program, "--help"], options.runs)
    python = timed([sys.executable, "-c", "pass"], options.runs)
    for name, times in (("mailward --help", ours), ("python -c pass", python)):
        print(f"{name:16} min {min(times):6.1f}  median {statistics.median(times):6.1f}  max {max(times):6.1f} ms")
    fine = statistics.median(ours) <= options.limit_ms
    print(f"limit            {options.limit_ms:.0f} ms: {'kept' if fine else 'MISSED'}")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
