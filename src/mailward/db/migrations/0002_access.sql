-- Who may call: written by access/projection.py, rebuilt from the events.

CREATE TABLE users (
    id            TEXT NOT NULL PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    display_name  TEXT NOT NULL,
    sequence      INTEGER NOT NULL, -- version of the user at its last event
    created_at_us INTEGER NOT NULL,
    changed_at_us INTEGER NOT NULL
);

CREATE TABLE tokens (
    id            TEXT NOT NULL PRIMARY KEY,
    user_id       TEXT NOT NULL,
    digest        BLOB NOT NULL UNIQUE, -- SHA-256 of the token
    role          TEXT NOT NULL,        -- owner, viewer, sender
    created_at_us INTEGER NOT NULL,
    expires_at_us INTEGER               -- NULL: without end
);

CREATE INDEX tokens_by_user ON tokens (user_id);

CREATE TABLE members (
    user_id       TEXT NOT NULL PRIMARY KEY,
    roles         TEXT NOT NULL,    -- JSON array, e.g. ["IAM_OWNER"]
    sequence      INTEGER NOT NULL, -- version of the instance at the membership's last event
    created_at_us INTEGER NOT NULL,
    changed_at_us INTEGER NOT NULL
);
