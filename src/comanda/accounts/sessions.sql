-- Refresh tokens. See migrations/0001_accounts.sql.

-- name: add
INSERT INTO refresh_tokens (token_hash, account_id, family_id, expires_at)
SELECT given.token_hash, given.account_id, given.family_id, now() + $4::interval
  FROM unnest($1::bytea[], $2::uuid[], $3::uuid[]) AS given (token_hash, account_id, family_id);

-- name: spend
-- Use up those that are good. Of two at once the second waits for the first, and finds the token used. Whoever ends
-- sessions of an account holds its row: either they wait, and see the next token too, or this one is revoked. So does
-- whoever shows a used token meanwhile: that the family goes is true of the next token as well.
WITH owners AS (
    SELECT id FROM accounts
     WHERE id IN (SELECT account_id FROM refresh_tokens WHERE token_hash = ANY($1::bytea[])) ORDER BY id FOR NO KEY UPDATE
), mine AS (
    SELECT token_hash FROM owners JOIN refresh_tokens ON account_id = owners.id
     WHERE token_hash = ANY($1::bytea[]) ORDER BY token_hash FOR UPDATE OF refresh_tokens
)
UPDATE refresh_tokens SET used_at = now()
  FROM mine
 WHERE refresh_tokens.token_hash = mine.token_hash
   AND used_at IS NULL AND revoked_at IS NULL AND expires_at > now()
RETURNING refresh_tokens.token_hash, account_id, family_id;

-- name: revoke_reused
-- The families of those among these that were used before.
UPDATE refresh_tokens SET revoked_at = now()
 WHERE revoked_at IS NULL
   AND family_id IN (SELECT family_id FROM refresh_tokens
                      WHERE token_hash = ANY($1::bytea[]) AND used_at IS NOT NULL);

-- name: revoke_families
UPDATE refresh_tokens SET revoked_at = now()
 WHERE revoked_at IS NULL AND account_id = $1
   AND family_id IN (SELECT family_id FROM refresh_tokens WHERE token_hash = ANY($2::bytea[]) AND account_id = $1);

-- name: lock_owners
SELECT id FROM accounts WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE;

-- name: revoke_all
-- Who is signed in at the console is out there too.
WITH signed_out AS (DELETE FROM console_sessions WHERE account_id = ANY($1::uuid[]))
UPDATE refresh_tokens SET revoked_at = now() WHERE revoked_at IS NULL AND account_id = ANY($1::uuid[]);

-- name: forget
DELETE FROM refresh_tokens
 WHERE token_hash IN (SELECT token_hash FROM refresh_tokens WHERE expires_at < now() - interval '1 day'
                       ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED);
