DROP TABLE deleted_tool;
