-- The watch's own connection, and which orders it looks at.

-- name: bounded
-- No check may take longer than $1, or more than one core: nobody waits for this connection.
SELECT set_config('statement_timeout', $1, false), set_config('max_parallel_workers_per_gather', '0', false);

-- name: is_mine
-- One watch at a time over all relays: the lock goes with the connection.
SELECT pg_try_advisory_lock(hashtext('comanda watch'));

-- name: newest
-- The oldest of the newest $2 orders with ids from $1 on; nothing if there are fewer.
SELECT id FROM orders WHERE id >= $1::uuid ORDER BY id DESC OFFSET $2 - 1 LIMIT 1;
