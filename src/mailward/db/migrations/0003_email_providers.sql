-- Email providers: written by provider/projection.py in the transaction of the events, rebuilt from them.

CREATE TABLE email_providers (
    instance       TEXT NOT NULL,
    id             TEXT NOT NULL,
    kind           TEXT NOT NULL CHECK (kind IN ('smtp', 'http')),
    state          TEXT NOT NULL CHECK (state IN ('active', 'inactive')),
    description    TEXT NOT NULL,
    added_sequence INTEGER NOT NULL, -- version of the instance when it was added: the order of lists
    sequence       INTEGER NOT NULL, -- version of the instance at the last event that touched it
    creation_us    INTEGER NOT NULL,
    change_us      INTEGER NOT NULL,
    -- of kind smtp
    sender_address TEXT,
    sender_name    TEXT,
    reply_to       TEXT,
    tls            INTEGER,          -- 0 or 1
    host           TEXT,             -- host:port
    username       TEXT,
    password       TEXT,             -- sealed; NULL: none
    secret_host    TEXT,             -- the destination for which the password was entered; NULL without a password
    secret_tls     INTEGER,
    secret_user    TEXT,
    old_password   TEXT,             -- sealed; the one before, for the same destination
    old_until_us   INTEGER,          -- until when it, or the old signing key, is used beside the new one
    options        TEXT,             -- JSON of provider/options.py; NULL: nothing was set
    secrets        TEXT,             -- JSON, name -> sealed; NULL with options
    -- of kind http
    endpoint       TEXT,
    signing_key    TEXT,             -- sealed
    old_signing_key TEXT,            -- sealed; the one before
    -- what it may get; 0: no limit, or the default
    per_second     INTEGER NOT NULL DEFAULT 0,
    per_minute     INTEGER NOT NULL DEFAULT 0,
    per_day        INTEGER NOT NULL DEFAULT 0,
    uncertain_retries INTEGER,       -- NULL: the default
    failover_rank  INTEGER,          -- its place among those that take over, from 0; NULL: it does not
    PRIMARY KEY (instance, id)
);

CREATE UNIQUE INDEX email_providers_by_age ON email_providers (instance, added_sequence);

-- At most one is active, whatever the code does; also how the active one is found.
CREATE UNIQUE INDEX email_providers_active ON email_providers (instance) WHERE state = 'active';

CREATE INDEX email_providers_failover ON email_providers (instance, failover_rank) WHERE failover_rank IS NOT NULL;

-- Who asks for a token with a refresh token now. A server may take one only once, so nodes take turns.
CREATE TABLE refresh_token_turns (
    provider_id TEXT NOT NULL PRIMARY KEY,
    holder      TEXT NOT NULL,   -- a process
    until_us    INTEGER NOT NULL -- from then on it is taken for dead
);

-- So that a list need not count.
CREATE TABLE email_provider_totals (
    instance TEXT NOT NULL PRIMARY KEY,
    total    INTEGER NOT NULL,
    view_us  INTEGER NOT NULL -- time of the last event that changed the table
);
