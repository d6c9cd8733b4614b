-- What a user's request ids left, to be erased with the user.
CREATE INDEX CONCURRENTLY requests_by_user ON requests (tenant_id, user_id);
