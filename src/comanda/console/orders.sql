-- Orders and sagas as operators look for them. Each statement looks at a bounded number of rows.

-- name: found
-- Out of a span of orders older than $1 those that match, newest first; with each, how many orders were looked at and where
-- that ended: where nothing matches, these alone. The span, $2 long, is of all ('all'), of some customers ($4), of those that
-- have not ended ('open') or of those that are stuck ('stuck'). What belongs to an order is read one by one, by key, until
-- there are enough (hence LIMIT 1, and no EXISTS): joined otherwise, all orders are read, or all lines of a product.
WITH span AS MATERIALIZED (
    (SELECT id FROM orders WHERE $3::text = 'all' AND id < $1 ORDER BY id DESC LIMIT $2)
    UNION ALL
    (SELECT theirs.id FROM unnest($4::uuid[]) AS customers (id)
      CROSS JOIN LATERAL (SELECT id FROM orders WHERE $3::text = 'customers' AND customer_id = customers.id AND id < $1
                           ORDER BY id DESC LIMIT $2) AS theirs
      ORDER BY theirs.id DESC LIMIT $2)
    UNION ALL
    (SELECT id FROM (SELECT id FROM orders WHERE $3::text = 'open' AND ended_at IS NULL LIMIT 100000) AS under_way
      WHERE id < $1 ORDER BY id DESC LIMIT $2)
    UNION ALL
    (SELECT subject FROM sagas WHERE $3::text = 'stuck' AND state = 'COMPENSATION_FAILED' AND kind = 'order' AND subject < $1
      ORDER BY subject DESC LIMIT $2)
), looked_at AS (
    SELECT count(*) AS looked_at, (SELECT id FROM span ORDER BY id LIMIT 1) AS looked_to FROM span
)
SELECT looked_at, looked_to, matching.*
  FROM looked_at LEFT JOIN (
    SELECT orders.id, orders.state, orders.total_amount, orders.currency, orders.failure_reason, orders.created_at,
           orders.ended_at, accounts.email, concat_ws(' ', accounts.first_name, accounts.last_name) AS customer,
           sagas.id AS saga_id, sagas.state AS saga_state, sagas.step, sagas.direction, sagas.attempt, sagas.waits_until,
           sagas.note
      FROM (SELECT id FROM span ORDER BY id DESC) AS newest
     CROSS JOIN LATERAL (SELECT * FROM orders WHERE id = newest.id LIMIT 1) AS orders
      LEFT JOIN LATERAL (SELECT * FROM sagas WHERE id = orders.saga_id LIMIT 1) AS sagas ON true
      LEFT JOIN LATERAL (SELECT email, first_name, last_name FROM accounts WHERE id = orders.customer_id LIMIT 1) AS accounts
             ON true
     WHERE ($5::text IS NULL OR orders.state = $5) AND ($6::text IS NULL OR sagas.step = $6)
       AND ($10::text IS NULL OR ($10 = 'stuck' AND sagas.state = 'COMPENSATION_FAILED')
            OR ($10 = 'open' AND orders.ended_at IS NULL))
       AND ($7::text IS NULL
            OR concat_ws(' ', orders.failure_reason, sagas.reason, sagas.note) ILIKE '%' || $7 || '%')
       AND ($8::uuid[] IS NULL
            OR $8::uuid[] && ARRAY(SELECT product_id FROM order_lines WHERE order_lines.order_id = newest.id))
     ORDER BY newest.id DESC LIMIT $9) AS matching ON true
 ORDER BY matching.id DESC;

-- name: floor_of_age
-- Ids below this are of what is older.
SELECT uuid_floor(now() - make_interval(mins => $1));

-- name: customers
-- Whose name or address has this in it, by the index on parts of both: as many as are looked at, and one more.
SELECT id FROM accounts WHERE lower(email || ' ' || first_name || ' ' || last_name) LIKE '%' || lower($1) || '%' LIMIT $2;

-- name: order_paid_by
-- The order of a payment that the gateway knows by this id or key.
SELECT order_id FROM payments WHERE key = $1
UNION ALL (SELECT order_id FROM payments WHERE gateway_id = $1 LIMIT 1)
 LIMIT 1;

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
SELECT id, kind, version, subject, state, step, direction, attempt, queue, token FROM sagas WHERE id = $1;
