-- What the console shows: payments by the gateway's id, customers by a part of name or address, how objectives are kept.

-- No plain index: a payment's row is updated when its result comes, and stays within its page only as long as no index has to
-- be told what changed. One that summarizes blocks is told in passing (from PostgreSQL 16 on).
CREATE INDEX payments_gateway ON payments USING brin (gateway_id text_bloom_ops) WITH (autosummarize = on);

CREATE INDEX accounts_parts ON accounts USING gin (
    lower(email || ' ' || first_name || ' ' || last_name) gin_trgm_ops) WITH (fastupdate = off);

-- Of each hour how many there were, and how many of them were not as promised. Three rows an hour, kept for ever.
CREATE TABLE objective_hours (
    objective text NOT NULL CHECK (objective IN ('accept', 'confirmed', 'webhook')),
    hour      timestamptz NOT NULL,
    total     bigint NOT NULL,
    bad       bigint NOT NULL,
    PRIMARY KEY (objective, hour)
) WITH (fillfactor = 50);

-- Of each minute what the workers did in a queue. A day of them is kept.
CREATE TABLE queue_minutes (
    queue   text NOT NULL,
    minute  timestamptz NOT NULL,
    done    bigint NOT NULL,
    failed  bigint NOT NULL,
    -- Of both together.
    seconds double precision NOT NULL,
    PRIMARY KEY (queue, minute)
) WITH (fillfactor = 50);
