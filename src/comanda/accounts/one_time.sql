-- Tokens that mails carry. See migrations/0018_accounts_recovery.sql.

-- name: lock_owners
-- Tokens of an account are given out one after the other, so that there is one of a purpose at a time.
SELECT id FROM accounts WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE;

-- name: add
INSERT INTO account_tokens (id, token_hash, account_id, purpose, expires_at)
SELECT given.id, given.token_hash, given.account_id, $4, now() + $5::interval
  FROM unnest($1::uuid[], $2::bytea[], $3::uuid[]) AS given (id, token_hash, account_id);

-- name: owners
-- Whose the good ones are.
SELECT token_hash, account_id FROM account_tokens JOIN accounts ON accounts.id = account_id
 WHERE token_hash = ANY($1::bytea[]) AND purpose = $2 AND used_at IS NULL AND voided_at IS NULL
   AND expires_at > now() AND is_active AND deleted_at IS NULL;

-- name: spend
-- Use up those that are good. Of two at once the second waits for the first, and finds the token used. Accounts are
-- locked first, as by everybody else.
WITH owners AS (
    SELECT accounts.id FROM accounts
     WHERE id IN (SELECT account_id FROM account_tokens WHERE token_hash = ANY($1::bytea[]))
       AND is_active AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE
)
UPDATE account_tokens SET used_at = now()
  FROM owners
 WHERE account_id = owners.id AND token_hash = ANY($1::bytea[]) AND purpose = $2
   AND used_at IS NULL AND voided_at IS NULL AND expires_at > now()
RETURNING token_hash, account_id;

-- name: void
-- Of one purpose, or of any.
UPDATE account_tokens SET voided_at = now()
 WHERE account_id = ANY($1::uuid[]) AND ($2::text IS NULL OR purpose = $2) AND used_at IS NULL AND voided_at IS NULL;

-- name: forget
DELETE FROM account_tokens
 WHERE id IN (SELECT id FROM account_tokens WHERE expires_at < now() - interval '1 day'
               ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED);
