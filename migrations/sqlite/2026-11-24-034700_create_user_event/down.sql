DROP TABLE user_event;
