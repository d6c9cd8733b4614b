-- When a key does what. What it may do at a moment follows from comparing these, never from a job having run.
ALTER TABLE signing_keys
    -- From then on it signs, or makes MACs; known to everybody before. NULL = from the beginning.
    ADD COLUMN signs_from timestamptz,
    -- From then on it does not any more; what it made is verified on until nothing of it can live. NULL = it signs on.
    ADD COLUMN retires_at timestamptz,
    -- Removed in an emergency: from then on it verifies nothing, and its private part is empty.
    ADD COLUMN removed_at timestamptz;
