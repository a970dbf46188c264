-- What is set for the instance as a whole: written by settings/projection.py, rebuilt from the events.

CREATE TABLE settings (
    instance    TEXT NOT NULL,
    name        TEXT NOT NULL, -- language, domain_policy, notification_policy, secret_generator.N
    value       TEXT NOT NULL, -- JSON object with every field
    sequence    INTEGER NOT NULL, -- version of the instance at its last event
    creation_us INTEGER NOT NULL,
    change_us   INTEGER NOT NULL,
    PRIMARY KEY (instance, name)
);
