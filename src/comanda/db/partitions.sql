-- Outbox and saga history by week. See migrations/0005_outbox.sql.

-- name: ensure
SELECT ensure_partitions();

-- name: drop
SELECT name FROM drop_partitions($1) AS dropped (name);
