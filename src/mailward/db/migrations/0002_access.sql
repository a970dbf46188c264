-- Who may call: written by access/projection.py, rebuilt from the events.

CREATE TABLE users (
    id            TEXT NOT NULL PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    display_name  TEXT NOT NULL,
    role          TEXT NOT NULL,    -- owner, viewer, sender: what the user was made for
    sequence      INTEGER NOT NULL, -- version of the user at its last event
    created_at_us INTEGER NOT NULL,
    changed_at_us INTEGER NOT NULL,
    secret_digest BLOB              -- SHA-256 of the client secret; NULL: none
);

CREATE TABLE tokens (
    id            TEXT NOT NULL PRIMARY KEY,
    user_id       TEXT NOT NULL,
    digest        BLOB NOT NULL UNIQUE, -- SHA-256 of the token
    role          TEXT NOT NULL,        -- owner, viewer, sender
    kind          TEXT NOT NULL,        -- pat: made by an operator; access: issued to a service account
    key_id        TEXT,                 -- of access: the key that brought it; NULL: the client secret did
    for_api       INTEGER NOT NULL,     -- 1: good for the API; 0: asked for without its audience
    created_at_us INTEGER NOT NULL,
    expires_at_us INTEGER               -- NULL: without end
);

CREATE INDEX tokens_by_user ON tokens (user_id);

CREATE TABLE members (
    user_id       TEXT NOT NULL PRIMARY KEY,
    roles         TEXT,             -- JSON array, e.g. ["IAM_OWNER"]; NULL: a member no longer
    sequence      INTEGER NOT NULL, -- version of the instance at the membership's last event
    created_at_us INTEGER NOT NULL,
    changed_at_us INTEGER NOT NULL
);

CREATE TABLE machine_keys (
    id            TEXT NOT NULL PRIMARY KEY,
    user_id       TEXT NOT NULL,
    public_key    TEXT NOT NULL, -- PEM
    created_at_us INTEGER NOT NULL,
    expires_at_us INTEGER        -- NULL: without end
);

CREATE TABLE signing_keys (
    id            TEXT NOT NULL PRIMARY KEY,
    public_key    TEXT NOT NULL, -- PEM
    private_key   TEXT NOT NULL, -- PEM, sealed
    created_at_us INTEGER NOT NULL
);
