-- Tools that are gone, so that the history of their facts stays: an event of such a tool has its key here, which is below
-- zero, as SQLite would give the key that it had to a new tool.
CREATE TABLE deleted_tool (
    id BIGINT PRIMARY KEY NOT NULL CHECK (id < 0),
    name TEXT NOT NULL,
    merged_into BIGINT,
    deleted_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
);
