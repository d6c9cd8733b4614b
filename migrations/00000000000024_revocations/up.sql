-- What must not be known by heart any more: written in the transaction of the change, read by every replica in the
-- order of commits, and by gateways. It names no user, so an erasure leaves it.
CREATE TABLE revocations (
    -- The transaction that wrote it.
    xid              xid8        NOT NULL DEFAULT pg_current_xact_id(),
    tenant_id        text        NOT NULL,
    -- 1 session, 2 device, 3 user, 4 tenant, 5 key.
    level            smallint    NOT NULL CHECK (level BETWEEN 1 AND 5),
    -- The id of the session or device, a digest of the user, nothing for the tenant, the id of the key.
    subject          text        NOT NULL,
    -- Of a session: its access tokens of lower generations are concerned; 1 = none, only what is known of it changed.
    below_generation integer     NOT NULL CHECK (below_generation >= 1),
    revoked_at       timestamptz NOT NULL,
    -- From then on no token that it concerns can be in date.
    evict_at         timestamptz NOT NULL,
    PRIMARY KEY (xid, tenant_id, level, subject)
);
