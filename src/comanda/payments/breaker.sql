-- The breaker's one state, for all workers. See migrations/0006_payments.sql.

-- name: look
SELECT state, failures, probe_at, now() AS now FROM breakers WHERE name = 'gateway';

-- name: lock
SELECT state, failures, probe_at, now() AS now FROM breakers WHERE name = 'gateway' FOR UPDATE;

-- name: change
UPDATE breakers SET state = $1, failures = $2, probe_at = $3, updated_at = now() WHERE name = 'gateway';
