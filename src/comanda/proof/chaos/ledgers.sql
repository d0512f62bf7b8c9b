-- name: orders
SELECT id, customer_id, state, failure_reason, total_amount, created_at, ended_at FROM orders ORDER BY id;

-- name: keys
SELECT customer_id, key, subject FROM idempotency_keys;

-- name: stock
SELECT product_id, sum(on_hand)::bigint AS on_hand, sum(held)::bigint AS held FROM stock GROUP BY product_id;

-- name: sold
SELECT product_id, sum(quantity)::bigint AS quantity
  FROM orders JOIN order_lines ON order_lines.order_id = orders.id
 WHERE state = 'CONFIRMED' GROUP BY product_id;

-- name: progress
SELECT count(*) AS orders, count(ended_at) AS ended FROM orders;

-- name: terminate
-- All backends of the instance, or those that only listen.
SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) AS terminated
  FROM pg_stat_activity
 WHERE application_name LIKE $1 AND pid <> pg_backend_pid();
