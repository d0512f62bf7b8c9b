-- Outbox and saga history by week. See migrations/0027_partitions.sql.

-- name: missing
SELECT parent, week, name, is_held FROM missing_partitions();

-- name: make
SELECT make_partition($1::text, $2::timestamptz);

-- name: old
SELECT parent, name FROM old_partitions($1);

-- name: drop
SELECT drop_partition($1::text);
