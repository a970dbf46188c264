"""How one migration file reads for each engine."""

from mailward.db.migrate import shipped, statements

TEXT = """-- About: a comment; with a semicolon.
CREATE TABLE one (
-- only sqlite
    id INTEGER PRIMARY KEY,
-- only postgresql
    id INTEGER PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
-- both
    body BLOB NOT NULL, -- bytes; a semicolon
    words TEXT NOT NULL DEFAULT 'integer'
);

CREATE INDEX one_words ON one (words)
    WHERE words <> '';
-- only postgresql
ALTER TABLE one SET (fillfactor = 80);
"""


def test_sqlite_gets_its_lines_and_strict_tables() -> None:
    table, index = statements(TEXT, "sqlite")

    assert "id INTEGER PRIMARY KEY," in table
    assert "IDENTITY" not in table
    assert table.endswith(") STRICT")
    assert index.endswith("WHERE words <> ''")


def test_postgresql_gets_its_lines_and_its_types() -> None:
    table, _, alter = statements(TEXT, "postgresql")

    assert "id BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY," in table
    assert "body BYTEA NOT NULL" in table
    assert "DEFAULT 'integer'" in table
    assert alter == "ALTER TABLE one SET (fillfactor = 80)"


def test_the_shipped_migrations_are_numbered_without_gaps() -> None:
    migrations = shipped()

    assert [one.version for one in migrations] == list(range(1, len(migrations) + 1))
    assert migrations[0].name == "events"


def test_every_shipped_table_is_strict_in_sqlite() -> None:
    tables = [
        statement
        for migration in shipped()
        for statement in migration.statements("sqlite")
        if statement.startswith("CREATE TABLE")
    ]

    assert tables
    assert all("STRICT" in statement.splitlines()[-1] for statement in tables)
