-- What nodes share about providers. Written at a failure, a recovery, and once for a batch of limited messages; never per message.

CREATE TABLE provider_health (
    provider_id TEXT NOT NULL PRIMARY KEY,
    breaker     TEXT NOT NULL, -- JSON, delivery/breaker.py
    usage       TEXT NOT NULL  -- JSON, delivery/limits.py
);
