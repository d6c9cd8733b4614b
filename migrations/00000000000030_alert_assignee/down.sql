-- Loses who works on each alert.
ALTER TABLE security_alerts DROP COLUMN assignee;
