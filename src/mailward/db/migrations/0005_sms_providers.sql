-- SMS providers: written by provider/sms_projection.py in the transaction of the events, rebuilt from them.

CREATE TABLE sms_providers (
    instance           TEXT NOT NULL,
    id                 TEXT NOT NULL,
    kind               TEXT NOT NULL CHECK (kind IN ('twilio', 'http')),
    state              TEXT NOT NULL CHECK (state IN ('active', 'inactive')),
    description        TEXT NOT NULL,
    added_sequence     INTEGER NOT NULL, -- version of the instance when it was added: the order of lists
    sequence           INTEGER NOT NULL, -- version of the instance at the last event that touched it
    creation_us        INTEGER NOT NULL,
    change_us          INTEGER NOT NULL,
    -- of kind twilio
    sid                TEXT,
    token              TEXT,             -- sealed
    sender_number      TEXT,
    verify_service_sid TEXT,
    -- of kind http
    endpoint           TEXT,
    signing_key        TEXT,             -- sealed
    PRIMARY KEY (instance, id)
);

CREATE UNIQUE INDEX sms_providers_by_age ON sms_providers (instance, added_sequence);

-- At most one is active, whatever the code does.
CREATE UNIQUE INDEX sms_providers_active ON sms_providers (instance) WHERE state = 'active';

-- So that a list need not count.
CREATE TABLE sms_provider_totals (
    instance TEXT NOT NULL PRIMARY KEY,
    total    INTEGER NOT NULL,
    view_us  INTEGER NOT NULL -- time of the last event that changed the table
);
