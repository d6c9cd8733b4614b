-- What a tenant states of detection: modes, actions and thresholds of rules. NULL = nothing.
ALTER TABLE policies ADD COLUMN detection jsonb CHECK (jsonb_typeof(detection) = 'object');
