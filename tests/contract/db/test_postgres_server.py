"""The PostgreSQL that the tests bring along starts wherever the project was cloned to."""

import subprocess
from pathlib import Path

from tests.support.postgres import copy_programs


def test_a_copy_of_the_programs_finds_its_libraries(tmp_path: Path) -> None:
    """Root's clone may lie where `nobody`, as whom the server runs, cannot go, e.g. in what `mktemp -d` makes."""
    programs = copy_programs(tmp_path)

    for name in ("initdb", "postgres"):
        assert subprocess.check_output([programs / name, "--version"], text=True).startswith(f"{name} (PostgreSQL)")
