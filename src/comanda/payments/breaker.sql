-- The breaker's one state, for all workers. See migrations/0006_payments.sql.

-- name: look
SELECT state, failures, probe_at, ramp_rate, ramp_since, ramp_at, ramp_tokens, ramp_held_at, now() AS now
  FROM breakers WHERE name = 'gateway';

-- name: is_awaited
-- Whether an order stands where it has to be paid.
SELECT EXISTS (SELECT 1 FROM sagas WHERE waits_until IS NOT NULL AND state = 'RUNNING' AND kind = 'order'
                  AND queue = 'payment-processing' AND direction = 'forward')
    OR EXISTS (SELECT 1 FROM sagas WHERE waits_until IS NULL AND state IN ('RUNNING', 'COMPENSATING') AND kind = 'order'
                  AND queue = 'payment-processing' AND direction = 'forward');

-- name: lock
SELECT state, failures, probe_at, ramp_rate, ramp_since, ramp_at, ramp_tokens, ramp_held_at, now() AS now
  FROM breakers WHERE name = 'gateway' FOR UPDATE;

-- name: try_lock
-- Within a saga's transaction, which holds other locks: nobody waits here. No row: somebody else decides right now.
SELECT state, failures, probe_at, ramp_rate, ramp_since, ramp_at, ramp_tokens, ramp_held_at, now() AS now
  FROM breakers WHERE name = 'gateway' FOR UPDATE SKIP LOCKED;

-- name: change
UPDATE breakers SET state = $1, failures = $2, probe_at = $3, updated_at = now() WHERE name = 'gateway';

-- name: keep_rate
-- The breaker opens: how many calls a second went out before, in the busiest five seconds of the last minute (no fewer
-- than $1). A ramp that was still going on knows better. Ids sort by time.
UPDATE breakers SET ramp_since = NULL, ramp_rate = coalesce(ramp_rate, greatest($1::double precision, (
       SELECT max(calls) FROM (
           SELECT count(*) / 5.0 AS calls FROM payments
            WHERE id >= uuid_floor(now() - interval '1 minute')
            GROUP BY floor(extract(epoch FROM created_at) / 5)) AS busy)))
 WHERE name = 'gateway';

-- name: ramp
UPDATE breakers SET ramp_rate = $1, ramp_since = $2, ramp_at = $3, ramp_tokens = $4, ramp_held_at = $5
 WHERE name = 'gateway';
