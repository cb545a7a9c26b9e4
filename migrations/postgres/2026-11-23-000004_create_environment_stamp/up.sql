-- One row: which environment this database is.
CREATE TABLE environment_stamp (
    id BIGINT PRIMARY KEY NOT NULL CHECK (id = 1),
    environment TEXT NOT NULL CHECK (environment IN ('local', 'staging', 'production')),
    stamped_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'utc')
);
