-- Who changed access: one run of a program, or one action of an admin.
CREATE TABLE tool_access_run (
    id INTEGER PRIMARY KEY NOT NULL,
    program TEXT NOT NULL CHECK (program <> ''),
    admin TEXT,
    run_id TEXT,
    file_sha256 TEXT,
    happened_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
);

-- What it changed. Keys without foreign keys: checking them would double the time of a large import. User 0 is
-- everyone. The primary key is what `explain` looks up.
CREATE TABLE tool_access_event (
    run BIGINT NOT NULL,
    user_id BIGINT NOT NULL,
    tool_id BIGINT NOT NULL,
    change TEXT NOT NULL,
    PRIMARY KEY (user_id, tool_id, run, change)
) WITHOUT ROWID;

-- SQLite gives the key of a deleted row to a new one, which must not inherit a history.
CREATE TRIGGER tool_access_event_user_deleted AFTER DELETE ON users
BEGIN
    DELETE FROM tool_access_event WHERE user_id = OLD.id;
END;

CREATE TRIGGER tool_access_event_tool_deleted AFTER DELETE ON tools
BEGIN
    DELETE FROM tool_access_event WHERE tool_id = OLD.id;
END;
