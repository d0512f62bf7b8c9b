-- The queues' switches. See migrations/0004_sagas.sql.

-- name: read
SELECT name, rate_limit, is_paused FROM queues ORDER BY name;

-- name: set_limit
UPDATE queues SET rate_limit = $2, updated_at = now(), updated_by = $3 WHERE name = $1;

-- name: set_paused
UPDATE queues SET is_paused = $2, updated_at = now(), updated_by = $3 WHERE name = $1;
