-- Dead letters, gathered by what went wrong.

-- name: groups
-- Of the newest 20,000 open letters on a filter: those that are alike, the orders that they are about, and what these are worth.
-- Each is looked up by its key (LIMIT 1): to the planner reading a million messages for two thousand letters may look cheaper.
WITH open AS MATERIALIZED (
    SELECT id, saga_id, queue, step, direction, error, created_at, fingerprint FROM dead_letters
     WHERE redriven_at IS NULL AND ($1::int IS NULL OR created_at < now() - make_interval(mins => $1))
       AND ($2::text IS NULL OR queue = $2) AND ($3::text IS NULL OR step = $3)
       AND ($4::text IS NULL OR error ILIKE '%' || $4 || '%') AND ($5::text IS NULL OR fingerprint = $5)
     ORDER BY id DESC LIMIT 20000
), about AS (
    SELECT open.*, coalesce(notifications.order_id, refunds.order_id,
                            CASE WHEN sagas.kind = 'order' THEN sagas.subject END) AS order_id
      FROM open
      LEFT JOIN LATERAL (SELECT kind, subject FROM sagas WHERE id = open.saga_id LIMIT 1) AS sagas ON true
      LEFT JOIN LATERAL (SELECT order_id FROM notifications
                          WHERE sagas.kind = 'notification' AND id = sagas.subject LIMIT 1) AS notifications ON true
      LEFT JOIN LATERAL (SELECT order_id FROM refunds
                          WHERE sagas.kind = 'refund' AND id = sagas.subject LIMIT 1) AS refunds ON true
)
SELECT fingerprint, orders.currency, min(queue) AS queue, min(step) AS step, min(direction) AS direction,
       (array_agg(error ORDER BY about.id DESC))[1] AS error, count(*) AS letters, count(DISTINCT orders.id) AS orders,
       coalesce(sum(orders.total_amount), 0)::bigint AS amount, min(about.created_at) AS first_at,
       max(about.created_at) AS last_at
  FROM about
  LEFT JOIN LATERAL (SELECT id, currency, total_amount FROM orders WHERE id = about.order_id LIMIT 1) AS orders ON true
 GROUP BY fingerprint, orders.currency
 ORDER BY last_at DESC;
