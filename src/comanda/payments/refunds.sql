-- Money that is given back after an order was confirmed. See migrations/0012_after_the_order.sql.

-- name: ask
-- Refunds that were granted under the lock of their payments; from now on that money is as good as gone.
WITH given AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::text[], $6::bool[], $7::text[],
                         $8::uuid[], $9::text[])
        AS given (id, order_id, kind, amount, currency, is_restocked, reason, actor, correlation_id)
), asked AS (
    INSERT INTO refunds (id, order_id, kind, amount, currency, is_restocked, reason, actor, correlation_id)
    SELECT id, order_id, kind, amount, currency, is_restocked, reason, actor, correlation_id FROM given
    RETURNING id, order_id, kind, state, amount, currency, is_restocked, reason, created_at, ended_at
), lines AS (
    INSERT INTO refund_lines (refund_id, product_id, quantity)
    SELECT refund_id, product_id, quantity FROM unnest($10::uuid[], $11::uuid[], $12::int[])
        AS given (refund_id, product_id, quantity)
), claimed AS (
    UPDATE payments SET refunding = refunding + sums.amount, updated_at = now()
      FROM (SELECT order_id, sum(amount) AS amount FROM given GROUP BY order_id) AS sums
     WHERE payments.order_id = sums.order_id
)
SELECT * FROM asked;

-- name: asked
-- What is to be given back, of which charge.
SELECT refunds.id, refunds.order_id, refunds.amount, payments.key
  FROM refunds LEFT JOIN payments ON payments.order_id = refunds.order_id
 WHERE refunds.id = ANY($1::uuid[]);

-- name: settle
-- How refunds ended, each once: what was promised to them is given back, or free again. (An order whose charge was skipped
-- has no payment, and of what costs nothing nothing is given back.)
WITH locked AS (
    SELECT order_id FROM payments WHERE order_id IN (SELECT order_id FROM refunds WHERE id = ANY($1::uuid[]))
     ORDER BY order_id FOR UPDATE
), ended AS (
    UPDATE refunds SET state = $2, ended_at = now()
     WHERE id = ANY($1::uuid[]) AND state = 'PENDING' AND (SELECT count(*) FROM locked) >= 0
    RETURNING id, order_id, amount, currency
), changed AS (
    UPDATE payments
       SET refunding = refunding - sums.amount, updated_at = now(),
           refunded = refunded + CASE WHEN $2 = 'SUCCEEDED' THEN sums.amount ELSE 0 END,
           state = CASE WHEN $2 <> 'SUCCEEDED' OR sums.amount = 0 THEN state
                        WHEN refunded + sums.amount = captured THEN 'REFUNDED' ELSE 'PARTIALLY_REFUNDED' END
      FROM (SELECT order_id, sum(amount) AS amount FROM ended GROUP BY order_id) AS sums
     WHERE payments.order_id = sums.order_id
    RETURNING payments.id, payments.order_id, payments.refunded, payments.captured
)
SELECT ended.id, ended.order_id, ended.amount, ended.currency, changed.id AS payment_id, changed.refunded, changed.captured
  FROM ended LEFT JOIN changed ON changed.order_id = ended.order_id;

-- name: orders_of
SELECT id, order_id FROM refunds WHERE id = ANY($1::uuid[]);

-- name: of_orders
SELECT id, order_id, kind, state, amount, currency, is_restocked, reason, created_at, ended_at FROM refunds
 WHERE order_id = ANY($1::uuid[]) ORDER BY order_id, id;

-- name: lines
SELECT refund_id, product_id, quantity FROM refund_lines
 WHERE refund_id = ANY($1::uuid[]) ORDER BY refund_id, product_id;
