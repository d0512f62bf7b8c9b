-- Who is there, as PostgreSQL sees it.

-- name: connected
-- How many of each kind of process are connected, by the names that their connections bear: in containers several bear one.
SELECT count(DISTINCT (application_name, client_addr)) FILTER (WHERE kind = 'api') AS apis,
       count(DISTINCT (application_name, client_addr)) FILTER (WHERE kind = 'worker') AS workers,
       count(DISTINCT (application_name, client_addr)) FILTER (WHERE kind = 'relay') AS relays
  FROM pg_stat_activity CROSS JOIN LATERAL (SELECT substring(application_name FROM '^comanda-(api|worker|relay)')) AS named (kind)
 WHERE datname = current_database() AND application_name !~ '-(lists|replica|listen)$';
