-- Loses the scope and the claims of the sessions there are: tokens that follow are without.
ALTER TABLE user_sessions DROP COLUMN claims, DROP COLUMN scope;
