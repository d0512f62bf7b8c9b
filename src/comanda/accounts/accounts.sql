-- Accounts. See migrations/0001_accounts.sql.

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
          updated_at;

-- name: find
SELECT id, email, password_hash, first_name, last_name, phone_number, language, role,
       is_active AND deleted_at IS NULL AS is_active, created_at, updated_at
  FROM accounts WHERE id = ANY($1::uuid[]);

-- name: by_email
SELECT given.position, id, accounts.email, password_hash, first_name, last_name, phone_number, language, role,
       is_active AND deleted_at IS NULL AS is_active, created_at, updated_at
  FROM unnest($1::text[]) WITH ORDINALITY AS given (email, position)
  JOIN accounts ON lower(accounts.email) = lower(given.email);
