-- Loses what was changed; that something was, and by whom, stays.
ALTER TABLE session_activities DROP COLUMN change;
