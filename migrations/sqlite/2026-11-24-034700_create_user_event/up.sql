-- What was done to users, by whom: appended and never updated. Who may use what has its own history, tool_access_event.
CREATE TABLE user_event (
    id INTEGER PRIMARY KEY NOT NULL,
    happened_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    author TEXT NOT NULL CHECK (author <> ''),
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    change TEXT NOT NULL CHECK (change <> ''),
    previous TEXT
);

CREATE INDEX user_event_user_id ON user_event (user_id);
