-- Orders and sagas as operators look for them. Each statement looks at a bounded number of rows.

-- name: found
-- Out of a span of orders older than $1 those that match. The span, $2 long, is of all ('all'), of some customers ($4), of
-- those that have not ended ('open') or of those that are stuck ('stuck').
WITH span AS MATERIALIZED (
    (SELECT id FROM orders WHERE $3::text = 'all' AND id < $1 ORDER BY id DESC LIMIT $2)
    UNION ALL
    (SELECT id FROM orders WHERE $3::text = 'customers' AND customer_id = ANY($4::uuid[]) AND id < $1
      ORDER BY id DESC LIMIT $2)
    UNION ALL
    (SELECT id FROM (SELECT id FROM orders WHERE $3::text = 'open' AND ended_at IS NULL LIMIT 100000) AS under_way
      WHERE id < $1 ORDER BY id DESC LIMIT $2)
    UNION ALL
    (SELECT subject FROM sagas WHERE $3::text = 'stuck' AND state = 'COMPENSATION_FAILED' AND kind = 'order' AND subject < $1
      ORDER BY subject DESC LIMIT $2)
)
SELECT orders.id, orders.state, orders.total_amount, orders.currency, orders.failure_reason, orders.created_at,
       orders.ended_at, accounts.email, sagas.id AS saga_id, sagas.state AS saga_state, sagas.step, sagas.direction,
       sagas.attempt, sagas.waits_until, sagas.note
  FROM span JOIN orders ON orders.id = span.id
  LEFT JOIN sagas ON sagas.id = orders.saga_id
  LEFT JOIN accounts ON accounts.id = orders.customer_id
 WHERE ($5::text IS NULL OR orders.state = $5)
   AND ($10::text IS NULL OR ($10 = 'stuck' AND sagas.state = 'COMPENSATION_FAILED')
        OR ($10 = 'open' AND orders.ended_at IS NULL))
   AND ($6::text IS NULL OR sagas.step = $6)
   AND ($7::text IS NULL
        OR concat_ws(' ', orders.failure_reason, sagas.reason, sagas.note) ILIKE '%' || $7 || '%')
   AND ($8::uuid[] IS NULL OR EXISTS (SELECT 1 FROM order_lines
                                       WHERE order_lines.order_id = orders.id AND product_id = ANY($8::uuid[])))
 ORDER BY orders.id DESC LIMIT $9;

-- name: end_of_span
-- Where a span of all orders ends; none where it reaches the first order.
SELECT id FROM orders WHERE id < $1 ORDER BY id DESC OFFSET $2 - 1 LIMIT 1;

-- name: floor_of_age
-- Ids below this are of what is older.
SELECT uuid_floor(now() - make_interval(mins => $1));

-- name: order_of
-- The order that an id is of: its own, its saga's, its message's, its payment's or its refund's.
SELECT id FROM orders WHERE id = $1
UNION ALL SELECT subject FROM sagas WHERE id = $1 AND kind = 'order'
UNION ALL SELECT order_id FROM notifications WHERE id = $1
UNION ALL SELECT order_id FROM payments WHERE id = $1
UNION ALL SELECT order_id FROM refunds WHERE id = $1
 LIMIT 1;

-- name: stuck
SELECT id, kind, subject, step, direction, queue, attempt, note, reason, since, updated_at FROM sagas
 WHERE state = 'COMPENSATION_FAILED' AND id < $1 AND ($3::text IS NULL OR kind = $3) AND ($4::text IS NULL OR step = $4)
   AND ($5::text IS NULL OR concat_ws(' ', note, reason) ILIKE '%' || $5 || '%')
   AND ($6::int IS NULL OR updated_at < now() - make_interval(mins => $6))
 ORDER BY id DESC LIMIT $2;

-- name: saga
SELECT id, kind, version, subject, state, step, direction, attempt, queue FROM sagas WHERE id = $1;
