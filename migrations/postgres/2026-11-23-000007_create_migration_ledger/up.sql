-- What was applied, by whom and with which text, beside diesel's table, which knows only versions. A row here without one
-- there is a migration that runs in no transaction and did not end.
CREATE TABLE migration_ledger (
    version TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    up_sha256 TEXT NOT NULL CHECK (length(up_sha256) = 64),
    applied_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
    duration_ms BIGINT,
    applied_by TEXT NOT NULL
);
