"""The command line as a user or a script sees it: output, exit codes, beside a running server too."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from tests.support.canaries import rows_of
from tests.support.program import Program, free_port
from tests.support.waiting import PATIENCE_S, wait_until

TOKEN = re.compile(r"mw_[A-Za-z0-9_-]{43}\n")


def run(*args: str, input: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `mailward ARGS` with none of this machine's settings."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MAILWARD_")}
    command = [sys.executable, "-m", "mailward", *args]
    return subprocess.run(command, input=input, capture_output=True, text=True, timeout=PATIENCE_S, env=clean | env)


def wait_until_refused(program: Program, token: str) -> None:
    """Return once the running server lets `token` in no more."""
    wait_until(lambda: program.request("GET", "/v1/messages", token=token).status == 401)


# -- token ------------------------------------------------------------------------------------------------------------


def test_a_token_made_beside_a_running_server_works_and_stops_to_work_when_it_is_revoked(program_on: Program) -> None:
    made = program_on.cli("token", "create", "--role", "sender", "--name", "app")
    assert (made.returncode, made.stderr) == (0, "")
    assert TOKEN.fullmatch(made.stdout)
    token = made.stdout.strip()
    assert program_on.request("GET", "/v1/messages", token=token).status == 200

    revoked = program_on.cli("token", "revoke", "app")

    assert (revoked.returncode, revoked.stdout) == (0, "")
    assert re.fullmatch(r"revoked \d{18} \(sender app\)\n", revoked.stderr)
    wait_until_refused(program_on, token)


def test_a_token_is_revoked_by_its_id_and_its_users_other_tokens_live_on(program: Program) -> None:
    first, second = program.token("viewer", "eve"), program.token("viewer", "eve")
    ids = [row["id"] for row in json.loads(program.cli("token", "list", "--json").stdout) if row["name"] == "eve"]

    assert program.cli("token", "revoke", ids[0]).returncode == 0

    wait_until_refused(program, first)
    assert program.request("GET", "/v1/messages", token=second).status == 200


def test_a_token_with_a_lifetime_ends_by_itself(program: Program) -> None:
    began = time.monotonic()
    made = program.cli("token", "create", "--role", "owner", "--name", "short", "--expires-in", "3s")
    token = made.stdout.strip()
    first = program.request("GET", "/v1/messages", token=token).status
    assert first == 200 or time.monotonic() - began > 3.0

    wait_until_refused(program, token)


def test_tokens_are_listed_for_people_and_for_programs(program: Program) -> None:
    program.token("sender", "app")
    assert program.cli("token", "create", "--role", "viewer", "--name", "eve", "--expires-in", "90d").returncode == 0

    for_people, for_programs = program.cli("token", "list"), program.cli("token", "list", "--json")

    rows = json.loads(for_programs.stdout)
    assert [(row["name"], row["role"], row["expires_at"] is None) for row in rows] == [
        ("owner", "owner", True), ("app", "sender", True), ("eve", "viewer", False),
    ]  # fmt: skip
    head, *lines = for_people.stdout.splitlines()
    assert head.split() == ["ID", "NAME", "ROLE", "CREATED_AT", "EXPIRES_AT"]
    assert [line.split()[:3] for line in lines] == [[row["id"], row["name"], row["role"]] for row in rows]
    assert "mw_" not in for_people.stdout + for_programs.stdout


def test_a_token_made_elsewhere_comes_by_stdin(program: Program) -> None:
    given = "mw_" + "a" * 43

    made = program.cli("token", "create", "--role", "owner", "--name", "vault", "--stdin", input=given + "\n")

    assert (made.returncode, made.stdout) == (0, given + "\n")
    assert program.request("GET", "/v1/messages", token=given).status == 200


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["token", "revoke", "nobody"], 3),
        (["token", "create", "--role", "king", "--name", "x"], 2),
        (["token", "create", "--role", "owner"], 2),
        (["token", "create", "--role", "owner", "--name", "x", "--expires-in", "soon"], 2),
        (["token", "create", "--role", "owner", "--name", "x", "--stdin"], 2),
        (["nonsense"], 2),
        (["token", "nonsense"], 2),
        (["serve", "--nonsense"], 2),
        (["token", "list", "--database", "mysql://x"], 2),
        (["token", "list", "--config", "no-such-file.toml"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_mistake_has_its_exit_code_and_a_sentence_on_stderr(args: list[str], code: int, tmp_path: Path) -> None:
    known = args[0] in ("token", "serve") and args[-1] != "nonsense"
    done = run(*args, *(["--data-dir", str(tmp_path / "data")] if known else []), input="")

    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr and "Traceback" not in done.stderr


def test_a_database_that_does_not_answer_is_exit_code_7(tmp_path: Path) -> None:
    url = f"postgresql://mailward@127.0.0.1:{free_port()}/mailward"

    for command in (["token", "list"], ["db", "migrate"]):
        done = run(*command, "--data-dir", str(tmp_path), "--database", url)
        assert (done.returncode, done.stdout) == (7, "")
        assert done.stderr.startswith("mailward: ") and "Traceback" not in done.stderr


# -- config -----------------------------------------------------------------------------------------------------------


def test_the_settings_in_effect_are_shown_with_where_each_comes_from(tmp_path: Path) -> None:
    file, key = tmp_path / "mailward.toml", tmp_path / "key"
    file.write_text('http = "127.0.0.1:1"\nsmtp = "127.0.0.1:2"\nretry_schedule_s = [1, 2]\n')
    key.write_text("a2V5\n")
    env = {"MAILWARD_CONFIG": str(file), "MAILWARD_SMTP": "127.0.0.1:3", "MAILWARD_MASTER_KEY_FILE": str(key)}

    done = run("config", "show", "--origin", "--hostname", "mx.example", **env)

    lines = done.stdout.splitlines()
    assert done.returncode == 0
    for expected in (
        'http = "127.0.0.1:1"  # file',
        'smtp = "127.0.0.1:3"  # environment',
        'hostname = "mx.example"  # flag',
        'data_dir = "mailward-data"  # default',
        "retry_schedule_s = [1, 2]  # file",
        'master_key = "***"  # environment',
    ):
        assert expected in lines
    as_json = json.loads(run("config", "show", "--origin", "--json", **env).stdout)
    assert as_json["smtp"] == {"value": "127.0.0.1:3", "origin": "environment"}
    assert as_json["master_key"]["value"] == "***"


def test_what_config_show_prints_is_a_configuration_file(tmp_path: Path) -> None:
    file = tmp_path / "mailward.toml"
    file.write_text(run("config", "show", "--hostname", 'quote " and \\').stdout)

    again = run("config", "show", "--config", str(file))

    assert again.stdout == file.read_text()


def test_a_check_finds_an_unknown_key_and_names_the_nearest_known_one(tmp_path: Path) -> None:
    file = tmp_path / "mailward.toml"
    file.write_text('datadir = "x"\n')

    by_file, by_environment = run("config", "check", "--config", str(file)), run("config", "check", MAILWARD_HTPP="x")

    assert (by_file.returncode, by_environment.returncode) == (2, 2)
    assert "did you mean 'data_dir'" in by_file.stderr
    assert "did you mean 'http'" in by_environment.stderr
    assert run("config", "check").returncode == 0


# -- db ---------------------------------------------------------------------------------------------------------------


def test_migrations_are_pending_then_applied_then_there_is_nothing_to_do(
    tmp_path: Path, store_flags: list[str]
) -> None:
    flags = ["--data-dir", str(tmp_path / "data"), *store_flags]
    before = run("db", "status", "--json", *flags)
    assert before.returncode == 1
    names = [row["name"] for row in json.loads(before.stdout) if row["state"] == "pending"]
    assert names[0] == "0001_events"

    done = run("db", "migrate", *flags)

    assert done.returncode == 0
    assert [line for line in done.stderr.splitlines() if line.startswith("applied ")] == [f"applied {n}" for n in names]
    after = run("db", "status", *flags)
    assert after.returncode == 0
    assert "pending" not in after.stdout
    assert run("db", "migrate", *flags).stderr == "up to date\n"


def test_a_rebuild_makes_the_read_tables_anew_from_the_events_and_the_same(program_on: Program) -> None:
    program_on.add_relay("smtp.example.com:587", user="relay", password="secret", tls=True)
    removed = program_on.add_relay("smtp.example.net:25", description="gone")
    program_on.request("POST", f"/admin/v1/smtp/{removed}/_deactivate", {})
    program_on.request("DELETE", f"/admin/v1/smtp/{removed}")
    program_on.token("viewer", "eve")
    program_on.token("sender", "app")
    program_on.cli("token", "revoke", "app")
    assert program_on.stop() == 0
    database = program_on.args[1] if "--database" in program_on.args else ""
    before = rows_of(database, program_on.data_dir)
    assert b"smtp.example.com:587" in before["email_providers"]
    for table in ("email_providers", "tokens", "users", "members"):
        delete_all(table, database, program_on.data_dir)
    assert rows_of(database, program_on.data_dir) != before

    done = program_on.cli("db", "rebuild")

    assert done.returncode == 0
    assert re.fullmatch(r"replayed \d+ events\n", done.stderr)
    assert rows_of(database, program_on.data_dir) == before


def delete_all(table: str, database: str, data_dir: Path) -> None:
    if database:
        with psycopg.connect(database) as postgres:
            postgres.execute(f"DELETE FROM {table}".encode())
        return
    with sqlite3.connect(data_dir / "mailward.db") as connection:
        connection.execute(f"DELETE FROM {table}")
    connection.close()


# -- help -------------------------------------------------------------------------------------------------------------


def test_every_command_explains_itself() -> None:
    said = run("--help").stdout
    nouns = re.findall(r"^  (\w+)  ", said.partition("Commands:")[2], re.M)

    assert {"serve", "token", "config", "db"} <= set(nouns)
    for noun in nouns:
        assert run(noun, "--help").returncode == 0
    assert run("--version").stdout.startswith("mailward 0.")
