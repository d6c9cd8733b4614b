-- Where the database is in its life, by which replicas notice that it was restored: one row, which each of them counts
-- up every second.
CREATE TABLE database_position (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    -- Made once: the same in all copies of the database.
    origin  uuid    NOT NULL,
    -- Another one after each restore.
    lineage uuid    NOT NULL,
    beat    bigint  NOT NULL,
    -- The transaction that wrote the row; another than its xmin in a database that a dump was restored into.
    xid     xid8    NOT NULL DEFAULT pg_current_xact_id()
) WITH (fillfactor = 50);
INSERT INTO database_position (origin, lineage, beat) VALUES (gen_random_uuid(), gen_random_uuid(), 0);

-- The restores that were noticed, and how far the sessions from before are ended, if they are.
CREATE TABLE database_restores (
    -- The one that ended.
    lineage           uuid        NOT NULL PRIMARY KEY,
    noticed_at        timestamptz NOT NULL,
    end_all           boolean     NOT NULL,
    -- Tenants up to this one have their revocation.
    withdrawn_through text        NOT NULL DEFAULT '',
    withdrawn         boolean     NOT NULL DEFAULT false,
    -- Of tenants up to this one all sessions from before are over.
    ended_through     text        NOT NULL DEFAULT '',
    complete          boolean     NOT NULL
);
