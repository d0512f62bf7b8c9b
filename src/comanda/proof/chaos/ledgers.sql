-- name: orders
SELECT id, customer_id, state, failure_reason, total_amount, created_at, ended_at FROM orders ORDER BY id;

-- name: keys
SELECT customer_id, key, subject FROM idempotency_keys WHERE kind = 'order';

-- name: stock
SELECT product_id, sum(on_hand)::bigint AS on_hand, sum(held)::bigint AS held FROM stock GROUP BY product_id;

-- name: sold
SELECT product_id, sum(quantity)::bigint AS quantity
  FROM orders JOIN order_lines ON order_lines.order_id = orders.id
 WHERE state IN ('CONFIRMED', 'SHIPPED', 'DELIVERED', 'REFUNDED') GROUP BY product_id;

-- name: put_back
-- By refunds that ended well.
SELECT product_id, sum(quantity)::bigint AS quantity
  FROM refunds JOIN refund_lines ON refund_id = refunds.id
 WHERE state = 'SUCCEEDED' AND is_restocked GROUP BY product_id;

-- name: progress
-- What is refunded or cancelled after it was confirmed has not ended either.
SELECT count(*) AS orders,
       greatest(0, count(ended_at) - (SELECT count(*) FROM sagas
                                       WHERE state IN ('RUNNING', 'COMPENSATING')
                                         AND (kind = 'refund'
                                              OR kind = 'order' AND EXISTS (SELECT 1 FROM orders AS before
                                                                             WHERE before.id = sagas.subject
                                                                               AND before.ended_at IS NOT NULL)))) AS ended
  FROM orders;

-- name: told
-- Events about orders, in the order in which each order's are told to the shop's own systems.
SELECT id, type, about.order_id
  FROM outbox
 CROSS JOIN LATERAL (
    SELECT CASE aggregate_type WHEN 'order' THEN aggregate_id::text ELSE payload->>'orderId' END AS order_id) AS about
 WHERE about.order_id IS NOT NULL
 ORDER BY outbox.xid, outbox.id;

-- name: is_all_told
-- No order goes on, no event waits to be sent on, no webhook is under way.
SELECT NOT EXISTS (SELECT 1 FROM sagas WHERE kind IN ('order', 'refund', 'webhook') AND state IN ('RUNNING', 'COMPENSATING'))
   AND NOT EXISTS (SELECT 1 FROM outbox JOIN outbox_cursors AS cursor ON sink = 'webhooks'
                    WHERE (outbox.xid, outbox.id) > (cursor.xid, cursor.id));

-- name: next_deliveries
-- The sagas of webhooks that wait for their next attempt and nothing else.
SELECT sagas.id
  FROM webhook_deliveries AS delivery JOIN sagas ON subject = delivery.id AND kind = 'webhook'
 WHERE delivery.state = 'PENDING' AND waits_until IS NOT NULL
   AND NOT EXISTS (SELECT 1 FROM webhook_deliveries AS earlier
                    WHERE earlier.endpoint_id = delivery.endpoint_id AND earlier.lane = delivery.lane
                      AND earlier.state = 'PENDING' AND earlier.seq < delivery.seq);

-- name: terminate
-- All backends of the instance, or those that only listen.
SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) AS terminated
  FROM pg_stat_activity
 WHERE application_name LIKE $1 AND pid <> pg_backend_pid();
