-- What health checks read.

-- name: alive
SELECT 1;

-- name: spare_memory
SELECT set_config('work_mem', '64kB', true);

-- name: spill
-- Sorts more than it has memory for: PostgreSQL needs room on its disk, and has none or not.
SELECT count(*) FROM (SELECT n FROM generate_series(1, 50000) AS n ORDER BY n DESC) AS sorted;

-- name: breakers
SELECT name, state, failures, probe_at FROM breakers ORDER BY name;
