DROP TABLE user_sessions;
DROP TABLE session_users;
