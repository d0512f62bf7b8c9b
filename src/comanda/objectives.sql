-- How the objectives are kept, by the hour. See migrations/0023_console_pages.sql.

-- name: add
INSERT INTO objective_hours (objective, hour, total, bad)
SELECT objective, date_trunc('hour', now(), 'UTC'), total, bad
  FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS given (objective, total, bad)
 ORDER BY objective
    ON CONFLICT (objective, hour) DO UPDATE
   SET total = objective_hours.total + excluded.total, bad = objective_hours.bad + excluded.bad;

-- name: of_days
-- Of the last $1 days, all together.
SELECT objective, sum(total)::bigint AS total, sum(bad)::bigint AS bad, min(hour) AS since FROM objective_hours
 WHERE hour >= now() - make_interval(days => $1)
 GROUP BY objective;
