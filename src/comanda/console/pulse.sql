-- What the overview shows. Each statement looks at a bounded number of rows, by an index.

-- name: minutes
-- Of each of these minutes: orders that were placed (counted up to 100,000), and of the newest 1,000 of them how they ended
-- and how long it took, in seconds.
SELECT given.minute, counted.placed, ended.confirmed, ended.cancelled, ended.seconds
  FROM unnest($1::timestamptz[]) AS given (minute)
 CROSS JOIN LATERAL (
    SELECT count(*) AS placed FROM (
        SELECT 1 FROM orders WHERE id >= uuid_floor(given.minute) AND id < uuid_floor(given.minute + interval '1 minute')
         LIMIT 100000) AS ones) AS counted
 CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE ended_at IS NOT NULL AND state <> 'CANCELLED') AS confirmed,
           count(*) FILTER (WHERE state = 'CANCELLED') AS cancelled,
           percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM ended_at - created_at)::float)
               FILTER (WHERE ended_at IS NOT NULL AND state <> 'CANCELLED') AS seconds
      FROM (SELECT state, created_at, ended_at FROM orders
             WHERE id >= uuid_floor(given.minute) AND id < uuid_floor(given.minute + interval '1 minute')
             ORDER BY id DESC LIMIT 1000) AS newest) AS ended
 ORDER BY given.minute;

-- name: money
-- Of the newest $1 orders of a day, by currency: what was captured and given back, and what should have been kept: the
-- totals of those that stand, less the refunds that were granted. Of those under way what is captured is owed to them.
SELECT currency, count(*) AS orders, min(created_at) AS since, coalesce(sum(captured), 0)::bigint AS captured,
       coalesce(sum(refunded), 0)::bigint AS refunded, coalesce(sum(kept), 0)::bigint AS kept
  FROM (
    SELECT orders.currency, orders.created_at, payments.captured, payments.refunded,
           CASE WHEN orders.ended_at IS NULL THEN payments.captured - payments.refunded
                WHEN orders.state = 'CANCELLED' THEN 0
                ELSE orders.total_amount - coalesce(granted.amount, 0) END AS kept
      FROM (SELECT * FROM orders WHERE id >= uuid_floor(now() - interval '1 day') ORDER BY id DESC LIMIT $1) AS orders
      LEFT JOIN payments ON payments.order_id = orders.id
      LEFT JOIN LATERAL (SELECT sum(amount) AS amount FROM refunds
                          WHERE refunds.order_id = orders.id AND refunds.state = 'SUCCEEDED') AS granted ON true
  ) AS each_one
 GROUP BY currency ORDER BY currency;

-- name: stock
-- All stock; and what active reservations hold, which is what `held` should say.
SELECT (SELECT coalesce(sum(on_hand), 0) FROM stock)::bigint AS on_hand,
       (SELECT coalesce(sum(held), 0) FROM stock)::bigint AS held,
       (SELECT coalesce(sum(quantity), 0) FROM reservations JOIN reservation_lines ON reservation_id = reservations.id
         WHERE state = 'ACTIVE')::bigint AS reserved;

-- name: breakers
SELECT name, state, failures, probe_at FROM breakers ORDER BY name;

-- name: troubles
-- Of each queue: retries that wait and open dead letters, each counted up to 100,000 in all.
WITH waiting AS (
    SELECT queue, count(*) AS count
      FROM (SELECT queue FROM sagas WHERE waits_until IS NOT NULL AND attempt > 0
               AND state IN ('RUNNING', 'COMPENSATING') LIMIT 100000) AS ones
     GROUP BY queue
), dead AS (
    SELECT queue, count(*) AS count
      FROM (SELECT queue FROM dead_letters WHERE redriven_at IS NULL LIMIT 100000) AS ones
     GROUP BY queue
)
SELECT name, coalesce(waiting.count, 0) AS retrying, coalesce(dead.count, 0) AS dead
  FROM queues LEFT JOIN waiting ON waiting.queue = name LEFT JOIN dead ON dead.queue = name
 ORDER BY name;

-- name: calls
-- What is out right now, and in whose hands.
SELECT id, kind, subject, step, direction, queue, worker, attempt, lease_until FROM sagas
 WHERE waits_until IS NULL AND state IN ('RUNNING', 'COMPENSATING') AND lease_until > now()
 ORDER BY sagas.id LIMIT 50;

-- name: workers
-- Workers that are connected, by the names that their connections bear; and what each has out, the oldest call first.
SELECT names.worker, names.connections, coalesce(busy.calls, 0) AS calls, busy.step, busy.direction, busy.kind
  FROM (SELECT regexp_replace(application_name, '^comanda-', '') AS worker, count(*) AS connections
          FROM pg_stat_activity
         WHERE datname = current_database() AND application_name ~ '^comanda-worker'
           AND application_name !~ '-(lists|replica|listen)$'
         GROUP BY 1) AS names
  LEFT JOIN (SELECT worker, count(*) AS calls, (array_agg(step ORDER BY lease_until))[1] AS step,
                    (array_agg(direction ORDER BY lease_until))[1] AS direction, (array_agg(kind ORDER BY lease_until))[1] AS kind
               FROM (SELECT worker, step, direction, kind, lease_until FROM sagas
                      WHERE waits_until IS NULL AND state IN ('RUNNING', 'COMPENSATING') AND lease_until > now()
                      LIMIT 10000) AS leased
              GROUP BY worker) AS busy ON busy.worker = names.worker
 ORDER BY names.worker LIMIT 100;
