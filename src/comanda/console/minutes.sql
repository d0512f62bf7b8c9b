-- Orders by the minute that they were placed in. Each statement looks at a bounded number of rows, by the primary key.

-- name: placed
-- Of each of these minutes: orders that were placed since a time in it (counted up to 100,000), and how many of those before
-- $3.
SELECT given.minute, counted.placed, counted.settled
  FROM unnest($1::timestamptz[], $2::timestamptz[]) AS given (minute, since)
 CROSS JOIN LATERAL (
    SELECT count(*) AS placed, count(*) FILTER (WHERE ones.id < uuid_floor($3::timestamptz)) AS settled FROM (
        SELECT id FROM orders
         WHERE id >= uuid_floor(given.since) AND id < uuid_floor(given.minute + interval '1 minute')
         LIMIT 100000) AS ones) AS counted;

-- name: took
-- Of the newest 1,000 orders of each of these minutes: how long it took until they were confirmed, in seconds; half of them,
-- 95 %, 99 % were faster. No row for a minute in which none was.
SELECT given.minute, ended.seconds
  FROM unnest($1::timestamptz[]) AS given (minute)
 CROSS JOIN LATERAL (
    SELECT percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM ended_at - created_at)::float)
               AS seconds, count(*) AS confirmed
      FROM (SELECT state, created_at, ended_at FROM orders
             WHERE id >= uuid_floor(given.minute) AND id < uuid_floor(given.minute + interval '1 minute')
             ORDER BY id DESC LIMIT 1000) AS newest
     WHERE ended_at IS NOT NULL AND state <> 'CANCELLED') AS ended
 WHERE ended.confirmed > 0;
