-- Who may use what, with what is shown of a tool, so that nobody has to look the tools up once more. As joins: PostgreSQL
-- then reads a user's facts at once, where it looked for each kind of fact once per tool.
CREATE OR REPLACE VIEW effective_tool_access AS
SELECT
    users.id AS user_id,
    tools.id AS tool_id,
    tools.name AS tool_name,
    tools.description AS tool_description,
    tools.route AS tool_route
FROM users
CROSS JOIN tools
LEFT JOIN tool_access
    ON tool_access.user_id = users.id AND tool_access.tool_id = tools.id
LEFT JOIN tool_access_everyone
    ON tool_access_everyone.tool_id = tools.id
LEFT JOIN tool_access_exclusion
    ON tool_access_exclusion.user_id = users.id AND tool_access_exclusion.tool_id = tools.id
WHERE users.is_active
    AND tools.is_active
    AND (tool_access.user_id IS NOT NULL OR tool_access_everyone.tool_id IS NOT NULL)
    AND tool_access_exclusion.user_id IS NULL;
