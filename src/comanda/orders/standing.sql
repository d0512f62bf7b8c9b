-- How an order stands once it is confirmed: what was shipped, given back, brought back. See
-- migrations/0012_after_the_order.sql.

-- name: lock_payments
-- Whatever is decided after an order is decided under its payment's lock: first come, first served. Payments before
-- orders, as the sagas lock them.
SELECT 1 FROM payments WHERE order_id = ANY($1::uuid[]) ORDER BY order_id FOR UPDATE;

-- name: lock_orders
-- In a statement of its own: who waited here reads what is true now in the next one.
SELECT 1 FROM orders WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE;

-- name: locked
-- Orders with their payments and where their processes stand.
SELECT orders.id, orders.customer_id, orders.state, sagas.state AS saga_state, orders.currency, orders.correlation_id,
       coalesce(payments.captured, 0) AS captured, coalesce(payments.refunded, 0) AS refunded,
       coalesce(payments.captured - payments.refunded - payments.refunding, 0) AS left_to_refund
  FROM orders JOIN sagas ON sagas.id = orders.saga_id LEFT JOIN payments ON payments.order_id = orders.id
 WHERE orders.id = ANY($1::uuid[])
 ORDER BY orders.id;

-- name: lines
-- Units of each line: ordered; shipped; refunded in any way; of these withdrawn (put back before they were shipped) and
-- returned (come back afterwards). Refunds that failed don't count.
SELECT order_lines.order_id, order_lines.product_id, order_lines.unit_price, order_lines.quantity AS ordered,
       coalesce(sent.quantity, 0)::int AS shipped, coalesce(back.refunded, 0)::int AS refunded,
       coalesce(back.withdrawn, 0)::int AS withdrawn, coalesce(back.returned, 0)::int AS returned
  FROM order_lines
 CROSS JOIN LATERAL (
    SELECT sum(quantity) AS quantity FROM shipments JOIN shipment_lines ON shipment_lines.shipment_id = shipments.id
     WHERE shipments.order_id = order_lines.order_id AND shipment_lines.product_id = order_lines.product_id) AS sent
 CROSS JOIN LATERAL (
    SELECT sum(quantity) AS refunded,
           sum(quantity) FILTER (WHERE kind = 'REFUND' AND is_restocked) AS withdrawn,
           sum(quantity) FILTER (WHERE kind = 'RETURN') AS returned
      FROM refunds JOIN refund_lines ON refund_lines.refund_id = refunds.id
     WHERE refunds.order_id = order_lines.order_id AND refund_lines.product_id = order_lines.product_id
       AND refunds.state <> 'FAILED') AS back
 WHERE order_lines.order_id = ANY($1::uuid[])
 ORDER BY order_lines.order_id, order_lines.position;

-- name: shipments
-- How many parcels of each order have left, and how many of them have arrived.
SELECT order_id, count(*) AS sent, count(delivered_at) AS delivered FROM shipments
 WHERE order_id = ANY($1::uuid[]) GROUP BY order_id;
