-- What the caller adds to the access tokens of the session: `scope` (RFC 6749, section 3.3), and claims of its own, an
-- object. NULL = none.
ALTER TABLE user_sessions ADD COLUMN scope text, ADD COLUMN claims jsonb;
ALTER TABLE user_sessions ADD CONSTRAINT user_sessions_scope
    CHECK (char_length(scope) BETWEEN 1 AND 1024) NOT VALID;
ALTER TABLE user_sessions ADD CONSTRAINT user_sessions_claims
    CHECK (jsonb_typeof(claims) = 'object') NOT VALID;
