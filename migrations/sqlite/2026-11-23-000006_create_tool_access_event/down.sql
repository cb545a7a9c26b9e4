DROP TRIGGER tool_access_event_tool_deleted;
DROP TRIGGER tool_access_event_user_deleted;
DROP TABLE tool_access_event;
DROP TABLE tool_access_run;
