DROP TABLE tool_access_event;
DROP TABLE tool_access_run;
