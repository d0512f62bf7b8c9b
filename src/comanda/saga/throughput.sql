-- What workers did, by queue and minute. See migrations/0023_console_pages.sql.

-- name: add
INSERT INTO queue_minutes (queue, minute, done, failed, seconds)
SELECT queue, date_trunc('minute', now()), done, failed, seconds
  FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::float[]) AS given (queue, done, failed, seconds)
 ORDER BY queue
    ON CONFLICT (queue, minute) DO UPDATE
   SET done = queue_minutes.done + excluded.done, failed = queue_minutes.failed + excluded.failed,
       seconds = queue_minutes.seconds + excluded.seconds;

-- name: of_hour
-- Of each queue: the last whole minute, and the last hour.
SELECT name AS queue,
       coalesce(sum(done + failed) FILTER (WHERE minute = date_trunc('minute', now()) - interval '1 minute'), 0)::bigint AS last_minute,
       coalesce(sum(done + failed), 0)::bigint AS last_hour, coalesce(sum(failed), 0)::bigint AS failed,
       coalesce(sum(seconds), 0)::float AS seconds
  FROM queues LEFT JOIN queue_minutes ON queue = name AND minute > now() - interval '1 hour'
 GROUP BY name ORDER BY name;

-- name: forget
DELETE FROM queue_minutes WHERE minute < now() - interval '1 day';
