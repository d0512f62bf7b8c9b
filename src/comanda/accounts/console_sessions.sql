-- Who is signed in at the console. See migrations/0020_console.sql.

-- name: begin
INSERT INTO console_sessions (token_hash, account_id, expires_at)
SELECT given.token_hash, given.account_id, now() + $3::interval
  FROM unnest($1::bytea[], $2::uuid[]) AS given (token_hash, account_id);

-- name: find
SELECT token_hash, account_id FROM console_sessions WHERE token_hash = ANY($1::bytea[]) AND expires_at > now();

-- name: roles
SELECT token_hash, role FROM console_sessions JOIN accounts ON accounts.id = account_id
 WHERE token_hash = ANY($1::bytea[]) AND expires_at > now() AND is_active AND deleted_at IS NULL;

-- name: finish
DELETE FROM console_sessions WHERE token_hash = ANY($1::bytea[]);

-- name: forget
DELETE FROM console_sessions
 WHERE token_hash IN (SELECT token_hash FROM console_sessions WHERE expires_at < now()
                       ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED);
