-- What a long outage of the gateway leaves behind, for benchmarks/growth.py.

-- name: waiting
-- $1 sagas that wait for a retry, a day from now, a millisecond apart.
INSERT INTO sagas (id, kind, version, subject, state, step, direction, queue, attempt, reached, since, waits_until,
                   correlation_id, created_at, updated_at)
SELECT uuid_v7(), 'order', 1, uuid_v7(), 'RUNNING', 'process_payment', 'forward', 'payment-processing', 2,
       'PAYMENT_PROCESSING', now(), now() + interval '1 day' + interval '1 ms' * n, 'waiting-' || n, now(), now()
  FROM generate_series(1, $1::int) AS n;

-- name: vacuum
VACUUM ANALYZE sagas;

-- name: vacuums
-- How many tables are being vacuumed or analyzed now.
SELECT count(*) AS n FROM pg_stat_activity WHERE backend_type = 'autovacuum worker';

-- name: rows
-- The twelve largest tables; a partitioned one counts as one.
SELECT whole.relname AS name, sum(greatest(part.reltuples, 0))::bigint AS rows
  FROM pg_class AS whole LEFT JOIN pg_inherits ON inhparent = whole.oid
  JOIN pg_class AS part ON part.oid = coalesce(inhrelid, whole.oid)
 WHERE whole.relkind IN ('r', 'p') AND NOT whole.relispartition AND whole.relnamespace = 'public'::regnamespace
 GROUP BY whole.relname ORDER BY rows DESC LIMIT 12;

-- name: over
DELETE FROM sagas WHERE correlation_id LIKE 'waiting-%' AND waits_until > now();
