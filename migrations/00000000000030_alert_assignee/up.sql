-- Who works on the alert. NULL = nobody.
ALTER TABLE security_alerts ADD COLUMN assignee text;
ALTER TABLE security_alerts ADD CONSTRAINT security_alerts_assignee
    CHECK (char_length(assignee) BETWEEN 1 AND 128) NOT VALID;
