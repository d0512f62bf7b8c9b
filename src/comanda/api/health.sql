-- What health checks read.

-- name: alive
SELECT 1;

-- name: breakers
SELECT name, state, failures, probe_at FROM breakers ORDER BY name;
