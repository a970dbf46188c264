-- Messages, their recipients and what was tried; the nodes that do it.
--
-- The accept path pays for every tree, so there are few: no foreign keys, no index for lists and look-ups (queries.py scans newest first).
-- The two partial indexes hold only recipients that wait, or that are leased: finished mail costs them nothing.

CREATE TABLE contents (
    id   INTEGER PRIMARY KEY, -- the message's id
    body BLOB NOT NULL        -- RFC 5322, CRLF line ends, not dot-stuffed; of a large one its end, behind its pieces
);

CREATE TABLE content_pieces (
    message_id INTEGER NOT NULL,
    n          INTEGER NOT NULL, -- from 0
    body       BLOB NOT NULL,    -- whole lines
    PRIMARY KEY (message_id, n)  -- beside the rows, so that looking for orphans reads no bodies
);
-- only postgresql
ALTER TABLE content_pieces ALTER COLUMN body SET STORAGE EXTERNAL; -- large contents are mostly packed already
-- both

CREATE TABLE messages (
    id                INTEGER PRIMARY KEY, -- time-ordered
    sender            TEXT NOT NULL,       -- user id of the submitter
    reverse_path      TEXT NOT NULL,       -- '' is the null reverse-path
    subject           TEXT NOT NULL,
    size_bytes        INTEGER NOT NULL,
    smtputf8          INTEGER NOT NULL,    -- 0 or 1
    ingress           TEXT NOT NULL,       -- 'http', 'grpc', 'smtp'
    tags              TEXT NOT NULL,       -- JSON array of strings
    metadata          TEXT NOT NULL,       -- JSON object of strings
    created_at_us     INTEGER NOT NULL,
    expires_at_us     INTEGER NOT NULL,    -- no attempt at or after it
    uncertain_retries INTEGER              -- NULL: the provider's or the default
);

CREATE TABLE recipients (
    message_id         INTEGER NOT NULL,
    n                  INTEGER NOT NULL,   -- position in the envelope, from 0
    address            TEXT NOT NULL,
    lane               INTEGER NOT NULL,   -- 0 otp, 1 transactional, 2 bulk
    state              TEXT NOT NULL,      -- delivery/status.py
    state_at_us        INTEGER NOT NULL,   -- when it entered the state
    attempts           INTEGER NOT NULL,   -- attempts that ended
    doubts             INTEGER NOT NULL,   -- those of them that ended uncertain
    next_attempt_at_us INTEGER,            -- NULL: leased, held or final
    node               INTEGER,            -- who holds the lease, at which epoch; both NULL: nobody
    epoch              INTEGER,
    PRIMARY KEY (message_id, n)
-- only sqlite
) STRICT, WITHOUT ROWID; -- one tree instead of two
-- only postgresql
);
-- both

CREATE INDEX recipients_due ON recipients (lane, next_attempt_at_us) WHERE next_attempt_at_us IS NOT NULL;

CREATE INDEX recipients_leased ON recipients (node) WHERE node IS NOT NULL;

CREATE TABLE attempts (
    message_id   INTEGER NOT NULL,
    id           INTEGER NOT NULL,  -- time-ordered
    provider_id  TEXT NOT NULL,
    node         INTEGER NOT NULL,
    epoch        INTEGER NOT NULL,
    recipients   TEXT NOT NULL,     -- JSON array of recipients.n
    opened_at_us INTEGER NOT NULL,  -- committed before the point of no return
    closed_at_us INTEGER,           -- NULL: open
    results      TEXT,              -- JSON array of [n, state, stage, fault, reply code, enhanced code, text]
    PRIMARY KEY (message_id, id)
-- only sqlite
) STRICT, WITHOUT ROWID;
-- only postgresql
);
-- both

CREATE TABLE nodes (
    id              INTEGER PRIMARY KEY CHECK (id BETWEEN 0 AND 127), -- part of the ids that the node draws; commands use those above
    name            TEXT NOT NULL UNIQUE,
    epoch           INTEGER NOT NULL, -- counts the lives of this row, whoever's; a lease of an earlier one is void
    living          INTEGER NOT NULL, -- 0 or 1; a row that is 0 holds no leases, and may become another node's
    beat            INTEGER NOT NULL, -- counts heartbeats: another node that sees it stand still takes this one for dead
    heartbeat_at_us INTEGER NOT NULL, -- when the last one was, for people: clocks differ
    last_id         INTEGER NOT NULL  -- drawn by this row's nodes; the next life goes on above it
);

-- Few messages have a key, or send an older one again: what no message needs is not in its row.

CREATE TABLE idempotency_keys (
    message_id  INTEGER PRIMARY KEY, -- what came of it; time-ordered, so the oldest keys lie together
    sender      TEXT NOT NULL,       -- user id of the submitter, whose namespace the key is in
    key         TEXT NOT NULL,
    fingerprint TEXT NOT NULL,       -- of what was submitted under it, hexadecimal
    UNIQUE (sender, key)
);

CREATE TABLE replays (
    message_id INTEGER PRIMARY KEY, -- the newer message
    replay_of  INTEGER NOT NULL     -- the older one
);

CREATE INDEX replays_of ON replays (replay_of);

-- Doubts are few, and must be found among any number of messages.
CREATE INDEX recipients_uncertain ON recipients (message_id) WHERE state = 'uncertain';
