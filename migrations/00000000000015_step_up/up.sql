-- Since when the session waits for a re-authentication that a rule demanded; NULL = it does not.
ALTER TABLE user_sessions ADD COLUMN step_up_at timestamptz;
