-- What was given up on. See migrations/0004_sagas.sql.

-- name: bury
INSERT INTO dead_letters (id, saga_id, queue, step, direction, error, payload)
SELECT id, saga_id, queue, step, direction, error, payload::jsonb
  FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
       AS given (id, saga_id, queue, step, direction, error, payload);

-- name: listed
SELECT id, saga_id, queue, step, direction, error, payload::text AS payload, created_at, redriven_at, redriven_by, reason
  FROM dead_letters
 WHERE ($1::bool OR redriven_at IS NULL) AND ($2::text IS NULL OR queue = $2)
 ORDER BY id DESC LIMIT $3;

-- name: alike
-- The open letters of one fingerprint, oldest first.
SELECT id, saga_id, queue, step, direction, error, payload::text AS payload, created_at, redriven_at, redriven_by, reason
  FROM dead_letters WHERE fingerprint = $1 AND redriven_at IS NULL
 ORDER BY id LIMIT $2;

-- name: find
SELECT id, saga_id, queue, step, direction, error, payload::text AS payload, created_at, redriven_at, redriven_by, reason,
       fingerprint
  FROM dead_letters WHERE id = ANY($1::uuid[]);

-- name: open_count
SELECT count(*) FROM dead_letters WHERE redriven_at IS NULL;

-- name: still_open
-- Those of these that nobody has taken care of (NULL: all), the oldest first.
SELECT id, saga_id FROM dead_letters
 WHERE redriven_at IS NULL AND ($1::uuid[] IS NULL OR id = ANY($1::uuid[])) ORDER BY id LIMIT $2;

-- name: close
-- Whoever comes second closes nothing.
UPDATE dead_letters SET redriven_at = now(), redriven_by = $2, reason = $3
 WHERE id = ANY($1::uuid[]) AND redriven_at IS NULL;

-- name: close_of_sagas
UPDATE dead_letters SET redriven_at = now(), redriven_by = $2, reason = $3
 WHERE saga_id = ANY($1::uuid[]) AND redriven_at IS NULL;
