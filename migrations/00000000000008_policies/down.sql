-- What tenants and clients decided is lost.
DROP TABLE policies;
