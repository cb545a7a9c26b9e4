-- A grant: this user may use this tool.
CREATE TABLE tool_access (
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    tool_id BIGINT NOT NULL REFERENCES tools (id) ON DELETE CASCADE,
    granted_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    origin TEXT NOT NULL CHECK (origin IN ('default', 'import', 'admin')),
    PRIMARY KEY (user_id, tool_id)
) WITHOUT ROWID;

-- A wildcard: everyone may use this tool.
CREATE TABLE tool_access_everyone (
    tool_id BIGINT PRIMARY KEY NOT NULL REFERENCES tools (id) ON DELETE CASCADE,
    granted_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    origin TEXT NOT NULL CHECK (origin IN ('default', 'import', 'admin'))
) WITHOUT ROWID;

-- An exclusion: this user must not use this tool, whatever else holds.
CREATE TABLE tool_access_exclusion (
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    tool_id BIGINT NOT NULL REFERENCES tools (id) ON DELETE CASCADE,
    excluded_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    origin TEXT NOT NULL CHECK (origin IN ('default', 'import', 'admin')),
    reason TEXT,
    PRIMARY KEY (user_id, tool_id)
) WITHOUT ROWID;

-- Who may use what, in the one place that the app, the checks and other services read.
CREATE VIEW effective_tool_access AS
SELECT users.id AS user_id, tools.id AS tool_id
FROM users
CROSS JOIN tools
WHERE users.is_active
    AND tools.is_active
    AND (
        EXISTS (
            SELECT 1 FROM tool_access
            WHERE tool_access.user_id = users.id AND tool_access.tool_id = tools.id
        )
        OR EXISTS (
            SELECT 1 FROM tool_access_everyone WHERE tool_access_everyone.tool_id = tools.id
        )
    )
    AND NOT EXISTS (
        SELECT 1 FROM tool_access_exclusion
        WHERE tool_access_exclusion.user_id = users.id AND tool_access_exclusion.tool_id = tools.id
    );
