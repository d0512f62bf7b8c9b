-- What operators are called about.

-- name: letters
SELECT id, saga_id, queue, step, direction, error, payload::text AS payload, created_at FROM dead_letters
 WHERE id = ANY($1::uuid[]);
