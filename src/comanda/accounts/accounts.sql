-- Accounts. See migrations/0001_accounts.sql. `updated_at` never stands still, as with products.

-- name: register
-- Those whose address is free, in whatever spelling. Of two for one address the first gets it.
INSERT INTO accounts (id, email, password_hash, first_name, last_name, phone_number, language, role)
SELECT given.id, given.email, given.password_hash, given.first_name, given.last_name, given.phone_number,
       given.language, given.role
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
       WITH ORDINALITY
       AS given (id, email, password_hash, first_name, last_name, phone_number, language, role, position)
 ORDER BY lower(given.email), given.position
    ON CONFLICT (lower(email)) DO NOTHING
RETURNING id, email, password_hash, first_name, last_name, phone_number, language, role, is_active, created_at,
          updated_at, email_verified_at;

-- name: find
SELECT id, email, password_hash, first_name, last_name, phone_number, language, role,
       is_active AND deleted_at IS NULL AS is_active, created_at, updated_at, email_verified_at
  FROM accounts WHERE id = ANY($1::uuid[]);

-- name: hold
-- As they are, and stay until the transaction ends: whoever changes a password or keeps somebody out waits, or was first.
SELECT id, email, password_hash, first_name, last_name, phone_number, language, role,
       is_active AND deleted_at IS NULL AS is_active, created_at, updated_at, email_verified_at
  FROM accounts WHERE id = ANY($1::uuid[]) ORDER BY id FOR SHARE;

-- name: by_email
SELECT given.position, id, accounts.email, password_hash, first_name, last_name, phone_number, language, role,
       is_active AND deleted_at IS NULL AS is_active, created_at, updated_at, email_verified_at
  FROM unnest($1::text[]) WITH ORDINALITY AS given (email, position)
  JOIN accounts ON lower(accounts.email) = lower(given.email);

-- name: page
SELECT id, email, password_hash, first_name, last_name, phone_number, language, role, is_active, created_at, updated_at,
       email_verified_at, count(*) OVER () AS total
  FROM accounts
 WHERE deleted_at IS NULL AND ($1::text IS NULL
       OR strpos(lower(email || ' ' || first_name || ' ' || last_name), lower($1::text)) > 0)
   AND ($2::bool IS NULL OR is_active = $2::bool) AND ($3::text IS NULL OR role = $3::text)
 ORDER BY CASE WHEN $5::text = 'asc' THEN CASE $4::text WHEN 'email' THEN lower(email)
               WHEN 'firstName' THEN lower(first_name) WHEN 'lastName' THEN lower(last_name) END END,
          CASE WHEN $5::text = 'desc' THEN CASE $4::text WHEN 'email' THEN lower(email)
               WHEN 'firstName' THEN lower(first_name) WHEN 'lastName' THEN lower(last_name) END END DESC,
          CASE WHEN $5::text = 'asc' THEN id END, id DESC
 OFFSET $6::bigint LIMIT $7::bigint;

-- name: newest
-- Those that were made before $1; $2: a pattern of what their address and names hold.
SELECT id, email, password_hash, first_name, last_name, phone_number, language, role, is_active, created_at, updated_at,
       email_verified_at
  FROM accounts
 WHERE deleted_at IS NULL AND id < $1
   AND ($2::text IS NULL OR lower(email || ' ' || first_name || ' ' || last_name) LIKE '%' || lower($2) || '%')
   AND ($3::text IS NULL OR role = $3) AND ($3 IS NULL OR $3 = 'customer' OR role <> 'customer')
 ORDER BY id DESC LIMIT $4;

-- name: count
SELECT count(*) FROM accounts
 WHERE deleted_at IS NULL AND ($1::text IS NULL
       OR strpos(lower(email || ' ' || first_name || ' ' || last_name), lower($1::text)) > 0)
   AND ($2::bool IS NULL OR is_active = $2::bool) AND ($3::text IS NULL OR role = $3::text);

-- name: living
SELECT id, email, password_hash, first_name, last_name, phone_number, language, role, is_active, created_at, updated_at,
       email_verified_at
  FROM accounts WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL;

-- name: locked
SELECT id, email, password_hash, first_name, last_name, phone_number, language, role, is_active, created_at, updated_at,
       email_verified_at
  FROM accounts WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE;

-- name: still
SELECT id, accounts.role FROM unnest($1::uuid[], $2::text[]) AS known (account_id, role)
  JOIN accounts ON accounts.id = known.account_id AND accounts.role = known.role
 WHERE is_active AND deleted_at IS NULL;

-- name: lock_admins
-- Changes come one at a time: two admins who take each other's rights at once would leave none.
SELECT pg_advisory_xact_lock(hashtextextended('comanda.admins', 0));

-- name: other_admins
SELECT count(*) FROM accounts
 WHERE role = 'admin' AND is_active AND deleted_at IS NULL AND id <> ALL($1::uuid[]);

-- name: rewrite
UPDATE accounts
   SET first_name = given.first_name, last_name = given.last_name, phone_number = given.phone_number,
       language = given.language, role = given.role, is_active = given.is_active,
       updated_at = greatest(now(), accounts.updated_at + interval '1 microsecond')
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bool[])
       AS given (id, first_name, last_name, phone_number, language, role, is_active)
 WHERE accounts.id = given.id
RETURNING accounts.id, accounts.email, accounts.password_hash, accounts.first_name, accounts.last_name,
          accounts.phone_number, accounts.language, accounts.role, accounts.is_active, accounts.created_at,
          accounts.updated_at, accounts.email_verified_at;

-- name: delete
-- The address stays taken: whoever gets it next must not come upon another one's orders.
UPDATE accounts SET deleted_at = now(), is_active = false, updated_at = now() WHERE id = ANY($1::uuid[]);

-- name: set_passwords
-- Where the old one is given, only while it is still that one: of two changes at once one wins.
UPDATE accounts
   SET password_hash = given.password_hash, updated_at = greatest(now(), accounts.updated_at + interval '1 microsecond')
  FROM unnest($1::uuid[], $2::text[], $3::text[]) AS given (id, password_hash, old_hash)
 WHERE accounts.id = given.id AND is_active AND deleted_at IS NULL
   AND (given.old_hash IS NULL OR accounts.password_hash = given.old_hash)
RETURNING accounts.id;

-- name: verify
UPDATE accounts SET email_verified_at = now(), updated_at = greatest(now(), accounts.updated_at + interval '1 microsecond')
 WHERE id = ANY($1::uuid[]) AND email_verified_at IS NULL;

-- name: has_staff
-- Whether there is anybody who could sign in at the console.
SELECT EXISTS (SELECT 1 FROM accounts WHERE role <> 'customer' AND is_active AND deleted_at IS NULL);
