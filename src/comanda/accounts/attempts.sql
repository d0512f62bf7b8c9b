-- How often anybody may try. See migrations/0018_accounts_recovery.sql.
--
-- Keys are made here, of what lower() makes of an e-mail, as `accounts_email` is: no spelling has tries of its own.

-- name: lock
-- The standing of each, made where there is none, and held until the transaction ends; in one order.
WITH given AS (
    SELECT position, scope, sha256(convert_to(lower(who), 'UTF8')) AS key
      FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS given (scope, who, position)
), held AS (
    INSERT INTO attempts (scope, key, tries, free_at, ends_at)
    SELECT DISTINCT scope, key, 0, 'epoch'::timestamptz, 'epoch'::timestamptz FROM given ORDER BY scope, key
        ON CONFLICT (scope, key) DO UPDATE SET tries = attempts.tries
    RETURNING scope, key, tries, free_at, ends_at
)
SELECT position, scope, key, tries, free_at, ends_at, now() AS now
  FROM given JOIN held USING (scope, key) ORDER BY position;

-- name: write
UPDATE attempts SET tries = given.tries, free_at = given.free_at, ends_at = given.ends_at
  FROM unnest($1::text[], $2::bytea[], $3::int[], $4::timestamptz[], $5::timestamptz[])
       AS given (scope, key, tries, free_at, ends_at)
 WHERE attempts.scope = given.scope AND attempts.key = given.key;

-- name: give_back
WITH mine AS (
    SELECT attempts.scope, attempts.key
      FROM unnest($1::text[], $2::text[]) AS given (scope, who)
      JOIN attempts ON attempts.scope = given.scope AND attempts.key = sha256(convert_to(lower(who), 'UTF8'))
     ORDER BY attempts.scope, attempts.key FOR UPDATE OF attempts
)
UPDATE attempts SET tries = greatest(tries - 1, 0)
  FROM mine WHERE attempts.scope = mine.scope AND attempts.key = mine.key;

-- name: clear
WITH mine AS (
    SELECT attempts.scope, attempts.key
      FROM unnest($1::text[], $2::text[]) AS given (scope, who)
      JOIN attempts ON attempts.scope = given.scope AND attempts.key = sha256(convert_to(lower(who), 'UTF8'))
     ORDER BY attempts.scope, attempts.key FOR UPDATE OF attempts
)
DELETE FROM attempts USING mine WHERE attempts.scope = mine.scope AND attempts.key = mine.key;

-- name: familiar
SELECT EXISTS (SELECT FROM familiar_addresses
                WHERE key = sha256(convert_to(lower(given.who), 'UTF8')) AND ends_at > now()) AS is_familiar
  FROM unnest($1::text[]) WITH ORDINALITY AS given (who, position) ORDER BY position;

-- name: remember
INSERT INTO familiar_addresses (key, ends_at)
SELECT DISTINCT sha256(convert_to(lower(given.who), 'UTF8')) AS key, now() + $2::interval
  FROM unnest($1::text[]) AS given (who) ORDER BY key
    ON CONFLICT (key) DO UPDATE SET ends_at = EXCLUDED.ends_at;

-- name: forget
DELETE FROM attempts
 WHERE (scope, key) IN (SELECT scope, key FROM attempts WHERE ends_at < now()
                         ORDER BY ends_at LIMIT $1 FOR UPDATE SKIP LOCKED);

-- name: forget_addresses
DELETE FROM familiar_addresses
 WHERE key IN (SELECT key FROM familiar_addresses WHERE ends_at < now()
                ORDER BY ends_at LIMIT $1 FOR UPDATE SKIP LOCKED);
