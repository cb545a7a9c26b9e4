DROP VIEW effective_tool_access;
DROP TABLE tool_access_exclusion;
DROP TABLE tool_access_everyone;
DROP TABLE tool_access;
