-- pgbench: the rows of one accepted order of two lines, written in one CTE. A transaction for each order.
\set p1 random(1, 100)
\set p2 random(1, 100)
WITH given AS (
    SELECT uuid_v7() AS id, uuid_v7() AS saga_id, uuid_v7() AS event_id, gen_random_uuid()::text AS key,
           (SELECT id FROM accounts LIMIT 1) AS customer_id
), goods AS (
    SELECT products.*, numbers.n AS position FROM (VALUES (:p1, 0), (CASE WHEN :p1 = :p2 THEN :p2 % 100 + 1 ELSE :p2 END, 1)) AS numbers (number, n)
      JOIN products ON products.sku = 'BENCH-' || numbers.number
), keys AS (
    INSERT INTO idempotency_keys (customer_id, key, fingerprint, subject, answer, created_at)
    SELECT customer_id, key, decode(md5(key), 'hex'), id, convert_to(repeat('x', 500), 'UTF8'), now() FROM given
        ON CONFLICT DO NOTHING RETURNING subject
), placed AS (
    INSERT INTO orders (id, customer_id, saga_id, total_amount, currency, correlation_id, created_at, updated_at)
    SELECT id, customer_id, saga_id, (SELECT sum(price) FROM goods), 'USD', key, now(), now() FROM given
     WHERE id IN (SELECT subject FROM keys)
), lined AS (
    INSERT INTO order_lines (order_id, position, product_id, sku, product_name, quantity, unit_price)
    SELECT given.id, goods.position, goods.id, goods.sku, goods.name, 1 + goods.position, goods.price FROM given, goods
), remembered AS (
    INSERT INTO order_moves (order_id, from_state, to_state, actor) SELECT id, NULL, 'PENDING', 'customer' FROM given
), begun AS (
    INSERT INTO sagas (id, kind, version, subject, step, queue, reached, since, correlation_id, created_at, updated_at)
    SELECT saga_id, 'order', 1, id, 'verify_stock', 'order-processing', 'STARTED', now(), key, now(), now() FROM given
)
INSERT INTO outbox (id, type, aggregate_type, aggregate_id, correlation_id, payload)
SELECT event_id, 'OrderCreated', 'order', id, key,
       jsonb_build_object('customerId', customer_id, 'sagaId', saga_id, 'totalAmount', 1000, 'currency', 'USD',
                          'items', (SELECT jsonb_agg(jsonb_build_object('productId', id, 'quantity', 1, 'unitPrice', price)) FROM goods))
  FROM given;
