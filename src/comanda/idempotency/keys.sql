-- The callers' names for their intents, and what was answered. See migrations/0003_orders.sql.

-- name: answers
-- What was answered under keys: read in a statement of its own, since the first one's snapshot can't see them.
SELECT asked.n, fingerprint, subject, answer
  FROM unnest($1::uuid[], $2::text[], $3::int[]) AS asked (customer_id, key, n)
  JOIN idempotency_keys ON idempotency_keys.customer_id = asked.customer_id AND idempotency_keys.key = asked.key;

-- name: remember
-- Keys that are new, with what is answered; those of others are left as they are.
INSERT INTO idempotency_keys (customer_id, key, kind, subject, fingerprint, answer, created_at)
SELECT customer_id, key, kind, subject, fingerprint, answer, now()
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::bytea[], $6::bytea[])
       AS given (customer_id, key, kind, subject, fingerprint, answer)
 ORDER BY customer_id, key
    ON CONFLICT DO NOTHING
RETURNING subject;

-- name: forget_keys
-- Keys older than $1, so many at a time.
DELETE FROM idempotency_keys WHERE (customer_id, key) IN (
    SELECT customer_id, key FROM idempotency_keys WHERE created_at < now() - $1::interval LIMIT $2);
