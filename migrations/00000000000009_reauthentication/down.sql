-- Loses which tokens were superseded: those of before a re-authentication count as older ones again.
ALTER TABLE user_sessions DROP COLUMN min_generation, DROP COLUMN renewed_at;
