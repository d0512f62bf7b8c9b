-- How far two servers are. Positions in the log are bytes since its beginning; `cluster` is the same on all copies.

-- name: written
SELECT pg_current_wal_lsn() - '0/0'::pg_lsn AS position, system_identifier::text || current_database() AS cluster
  FROM pg_control_system();

-- name: replayed
SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() - '0/0'::pg_lsn END AS position,
       system_identifier::text || current_database() AS cluster
  FROM pg_control_system();
