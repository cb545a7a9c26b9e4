DROP VIEW effective_tool_access;
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
