-- The event log, the version of each aggregate, and single facts about this installation.

CREATE TABLE events (
    position       INTEGER PRIMARY KEY, -- without gaps
    aggregate_type TEXT NOT NULL,
    aggregate_id   TEXT NOT NULL,
    version        INTEGER NOT NULL CHECK (version > 0),
    type           TEXT NOT NULL,
    payload        TEXT NOT NULL, -- JSON object
    editor         TEXT NOT NULL, -- user id
    peer           TEXT NOT NULL, -- address:port of the client; empty: done at the command line
    at_us          INTEGER NOT NULL, -- does not go back by less than a minute
    digest         BLOB NOT NULL,    -- over this event and the digest of the one before, see eventstore/chain.py
    UNIQUE (aggregate_type, aggregate_id, version)
);

-- What eventstore/search.py asks: a range of positions for each kind, for each editor and kind, and for a time.
-- Each has a spelling of the position that nothing else has, so that no planner answers with another index.
CREATE INDEX events_by_kind ON events (aggregate_type, type, (position + 0));
CREATE INDEX events_by_editor ON events (editor, aggregate_type, type, (position * 1));
CREATE INDEX events_by_time ON events (at_us, position);

-- Every kind of event that was ever stored.
CREATE TABLE event_kinds (
    aggregate_type TEXT NOT NULL,
    type           TEXT NOT NULL,
    PRIMARY KEY (aggregate_type, type)
);

CREATE TABLE aggregates (
    type    TEXT NOT NULL,
    id      TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0), -- of its last event
    PRIMARY KEY (type, id)
);

CREATE INDEX aggregates_by_id ON aggregates (id);

CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);
