-- What an earlier release cannot open or does not know goes: removed keys, which it would take for damaged, and keys of
-- other algorithms than Ed25519, whose tokens are then refused. Keys that are retired verify for ever again.
DELETE FROM signing_keys WHERE removed_at IS NOT NULL OR algorithm NOT IN ('EdDSA', 'HS256');
ALTER TABLE signing_keys
    DROP COLUMN signs_from,
    DROP COLUMN retires_at,
    DROP COLUMN removed_at;
