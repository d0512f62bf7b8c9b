-- What the overview shows. Each statement looks at a bounded number of rows, by an index.

-- name: money
-- Of the newest $1 orders of a day, by currency: what was captured and given back, and what should have been kept: the
-- totals of those that stand, less the refunds that were granted. Of those under way what is captured is owed to them.
-- Numeric, as below.
SELECT currency, count(*) AS orders, min(created_at) AS since, coalesce(sum(captured), 0) AS captured,
       coalesce(sum(refunded), 0) AS refunded, coalesce(sum(kept), 0) AS kept
  FROM (
    SELECT orders.currency, orders.created_at, payments.captured, payments.refunded,
           CASE WHEN orders.ended_at IS NULL THEN payments.captured - payments.refunded
                WHEN orders.state = 'CANCELLED' THEN 0
                ELSE orders.total_amount - coalesce(granted.amount, 0) END AS kept
      FROM (SELECT * FROM orders WHERE id >= uuid_floor(now() - interval '1 day') ORDER BY id DESC LIMIT $1) AS orders
      LEFT JOIN LATERAL (SELECT captured, refunded FROM payments WHERE order_id = orders.id LIMIT 1) AS payments ON true
      LEFT JOIN LATERAL (SELECT sum(amount) AS amount FROM refunds
                          WHERE refunds.order_id = orders.id AND refunds.state = 'SUCCEEDED') AS granted ON true
  ) AS each_one
 GROUP BY currency ORDER BY currency;

-- name: stock
-- All stock; and what active reservations hold, which is what `held` should say.
-- Numeric: all of it together may be more than one place can hold.
SELECT (SELECT coalesce(sum(on_hand), 0) FROM stock) AS on_hand,
       (SELECT coalesce(sum(held), 0) FROM stock) AS held,
       (SELECT coalesce(sum(quantity), 0) FROM reservations JOIN reservation_lines ON reservation_id = reservations.id
         WHERE state = 'ACTIVE') AS reserved;

-- name: breakers
SELECT name, state, failures, probe_at FROM breakers ORDER BY name;

-- name: queues
-- Of each queue: its switches; what is ready, what is under way, what waits, what of that has failed before, each counted up
-- to 100,000 in all; open dead letters, counted up to 100,000.
WITH open AS (
    (SELECT queue, false AS waits, false AS is_retry, lease_until IS NOT NULL AS is_leased, updated_at FROM sagas
      WHERE waits_until IS NULL AND state IN ('RUNNING', 'COMPENSATING') LIMIT 100000)
    UNION ALL
    (SELECT queue, true, attempt > 0, false, updated_at FROM sagas
      WHERE waits_until IS NOT NULL AND state IN ('RUNNING', 'COMPENSATING') LIMIT 100000)
), counted AS MATERIALIZED (
    SELECT queue, count(*) FILTER (WHERE NOT waits AND NOT is_leased) AS ready, count(*) FILTER (WHERE waits) AS delayed,
           count(*) FILTER (WHERE is_retry) AS retrying, count(*) FILTER (WHERE is_leased) AS running,
           min(updated_at) FILTER (WHERE NOT waits AND NOT is_leased) AS oldest
      FROM open GROUP BY queue
), dead AS MATERIALIZED (
    SELECT queue, count(*) AS dead
      FROM (SELECT queue FROM dead_letters WHERE redriven_at IS NULL LIMIT 100000) AS ones
     GROUP BY queue
)
SELECT name, rate_limit, is_paused, coalesce(ready, 0) AS ready, coalesce(delayed, 0) AS delayed,
       coalesce(retrying, 0) AS retrying, coalesce(running, 0) AS running, coalesce(dead, 0) AS dead,
       coalesce(extract(epoch FROM now() - oldest), 0)::float AS oldest_seconds
  FROM queues LEFT JOIN counted ON counted.queue = name LEFT JOIN dead ON dead.queue = name
 ORDER BY name;

-- name: calls
-- What is out right now, and in whose hands: of the oldest 20,000 that wait for nothing.
SELECT id, kind, subject, step, direction, queue, worker, attempt, lease_until
  FROM (SELECT * FROM sagas WHERE waits_until IS NULL AND state IN ('RUNNING', 'COMPENSATING')
         ORDER BY id LIMIT 20000) AS oldest
 WHERE lease_until > now()
 ORDER BY id LIMIT 50;

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
