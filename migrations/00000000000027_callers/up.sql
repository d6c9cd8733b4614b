-- Who may call. Not user data: small tables that every replica knows as a whole.
CREATE TABLE principals (
    -- What a certificate names (a URI or a DNS name), or any other name.
    name       text        NOT NULL PRIMARY KEY CHECK (char_length(name) BETWEEN 1 AND 256),
    -- Roles and scopes by their names (src/caller/permissions.rs, src/model/caller/scope.rs). A replica of another
    -- release grants nothing for a name that it does not know.
    roles      text[]      NOT NULL CHECK (cardinality(roles) <= 16),
    scopes     text[]      NOT NULL CHECK (cardinality(scopes) <= 64),
    -- '*' = all.
    tenants    text[]      NOT NULL CHECK (cardinality(tenants) BETWEEN 1 AND 100),
    -- Empty = any.
    audiences  text[]      NOT NULL CHECK (cardinality(audiences) <= 16),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

CREATE TABLE api_keys (
    key_id        text        NOT NULL PRIMARY KEY CHECK (char_length(key_id) = 16),
    principal     text        NOT NULL REFERENCES principals (name) ON DELETE CASCADE,
    -- Of 256 random bits, so nothing slower than a hash is needed, and nothing is to be guessed from it.
    secret_sha256 bytea       NOT NULL CHECK (octet_length(secret_sha256) = 32),
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL CHECK (expires_at > created_at),
    revoked_at    timestamptz
);

CREATE INDEX api_keys_by_principal ON api_keys (principal);
