-- The breaker's one state, for all workers. See migrations/0006_payments.sql.

-- name: look
SELECT state, failures, probe_at, now() AS now FROM breakers WHERE name = 'gateway';

-- name: lock
SELECT state, failures, probe_at, now() AS now FROM breakers WHERE name = 'gateway' FOR UPDATE;

-- name: try_lock
-- Within a saga's transaction, which holds other locks: nobody waits here. No row: somebody else decides right now.
SELECT state, failures, probe_at, now() AS now FROM breakers WHERE name = 'gateway' FOR UPDATE SKIP LOCKED;

-- name: change
UPDATE breakers SET state = $1, failures = $2, probe_at = $3, updated_at = now() WHERE name = 'gateway';
