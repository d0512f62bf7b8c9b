-- Passwords that somebody says they forgot. See migrations/0018_accounts_recovery.sql.

-- name: ask
INSERT INTO reset_requests (id, email, correlation_id)
SELECT given.id, given.email, given.correlation_id
  FROM unnest($1::uuid[], $2::text[], $3::text[]) AS given (id, email, correlation_id);

-- name: take
-- Each is answered once; those of nobody, and of accounts that are not active, come to nothing.
WITH taken AS (
    DELETE FROM reset_requests
     WHERE id IN (SELECT id FROM reset_requests ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)
    RETURNING id, email, correlation_id
)
SELECT accounts.id AS account_id, taken.correlation_id
  FROM taken LEFT JOIN accounts ON lower(accounts.email) = lower(taken.email) AND is_active AND deleted_at IS NULL
 ORDER BY taken.id;
