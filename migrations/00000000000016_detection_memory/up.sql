-- What detection remembers, bounded by itself; written only by who has the 'detect' row of feed_consumers locked.
CREATE TABLE user_memories (
    tenant_id text  NOT NULL,
    user_id   text  NOT NULL,
    memory    jsonb NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
) WITH (fillfactor = 70);

-- A network is an IPv4 address or an IPv6 /64. Users are in it as short hashes.
CREATE TABLE network_memories (
    tenant_id  text        NOT NULL,
    network    cidr        NOT NULL,
    memory     jsonb       NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, network)
) WITH (fillfactor = 70);

CREATE INDEX network_memories_by_age ON network_memories (updated_at);
