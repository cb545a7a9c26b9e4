DROP TABLE environment_stamp;
