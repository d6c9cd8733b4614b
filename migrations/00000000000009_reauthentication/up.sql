-- The start of the present absolute period: the last re-authentication. NULL = creation, which is also what
-- a replica of the release before leaves there.
ALTER TABLE user_sessions ADD COLUMN renewed_at timestamptz;
-- Tokens of a lower generation are superseded. 1, as in all rows there are, supersedes none.
ALTER TABLE user_sessions ADD COLUMN min_generation integer NOT NULL DEFAULT 1;
ALTER TABLE user_sessions ADD CONSTRAINT user_sessions_min_generation
    CHECK (min_generation BETWEEN 1 AND generation) NOT VALID;
