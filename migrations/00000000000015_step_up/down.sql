ALTER TABLE user_sessions DROP COLUMN step_up_at;
