-- name: leased
SELECT id, token FROM sagas WHERE worker = $1 AND lease_until IS NOT NULL;

-- name: still_leased
-- Of these leases (saga, fencing token), those that nobody has taken over or ended.
SELECT count(*) FROM sagas JOIN unnest($1::uuid[], $2::bigint[]) AS was (id, token) USING (id, token)
 WHERE lease_until IS NOT NULL;

-- name: leases
SELECT count(*) FROM sagas WHERE lease_until IS NOT NULL AND worker LIKE $1;

-- name: deadlocks
SELECT deadlocks FROM pg_stat_database WHERE datname = current_database();

-- name: states
SELECT state, count(*) AS orders FROM orders GROUP BY state;

-- name: first_ended
-- Of the orders that were placed after that moment.
SELECT min(ended_at) FROM orders WHERE created_at > to_timestamp($1);

-- name: now
SELECT clock_timestamp();

-- name: stuck
SELECT subject FROM sagas WHERE state = 'COMPENSATION_FAILED' AND kind = 'order';

-- name: messages
SELECT state, count(*) AS messages FROM notifications GROUP BY state;

-- name: letters
SELECT count(*) FROM dead_letters;

-- name: listeners
SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'comanda-%-listen';

-- name: in_transaction
-- Connections of workers that hold a transaction open.
SELECT count(*) FROM pg_stat_activity
 WHERE application_name LIKE 'comanda-worker-%' AND state LIKE 'idle in transaction%';

-- name: breaker
SELECT state FROM breakers WHERE name = 'gateway';

-- name: ended_since
-- Orders that ended after that moment.
SELECT count(*) FROM orders WHERE ended_at > to_timestamp($1);

-- name: published_since
-- Whether the relay has moved its cursor since then.
SELECT count(*) FROM outbox_cursors WHERE sink = 'events' AND updated_at > $1;

-- name: undoing
SELECT id FROM sagas WHERE kind = 'order' AND state IN ('COMPENSATING', 'COMPENSATION_FAILED');

-- name: connected
SELECT count(*) FROM pg_stat_activity WHERE application_name = $1;
