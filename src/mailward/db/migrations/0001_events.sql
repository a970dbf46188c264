-- The event log, the version of each aggregate, and single facts about this installation.

CREATE TABLE events (
-- only sqlite
    position       INTEGER PRIMARY KEY,
-- only postgresql
    position       INTEGER PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
-- both
    aggregate_type TEXT NOT NULL,
    aggregate_id   TEXT NOT NULL,
    version        INTEGER NOT NULL CHECK (version > 0),
    type           TEXT NOT NULL,
    payload        TEXT NOT NULL, -- JSON object
    editor         TEXT NOT NULL, -- user id
    at_us          INTEGER NOT NULL,
    UNIQUE (aggregate_type, aggregate_id, version)
);

CREATE TABLE aggregates (
    type    TEXT NOT NULL,
    id      TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0), -- of its last event
    PRIMARY KEY (type, id)
);

CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);
