-- Accepting orders: everything that a 202 promises, in one statement and one commit. (One statement writes tables of
-- several modules here, on purpose: docs/decisions/0001-shared-commits.md.)

-- name: accept
-- Orders that may be placed are those whose lines are on sale at the price that they were quoted, whose customer is
-- enabled, and who has not too many under way ($27; null: any number). Keys first: only who wins its key is written.
-- Answers for each order: accepted, taken (its key stands already), stale (quote anew), barred, or full.
WITH given AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::bytea[], $6::bytea[], $7::bigint[],
                         $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::timestamptz[],
                         $14::uuid[], $15::text[], $28::text[])
        AS given (id, saga_id, customer_id, key, fingerprint, answer, total_amount, currency, payment_method,
                  shipping_address, notes, correlation_id, created_at, event_id, payload, traceparent)
), lines AS (
    SELECT given.order_id, given.position, given.product_id, given.quantity, given.unit_price,
           products.sku, products.name, products.id IS NULL AS is_stale
      FROM unnest($16::uuid[], $17::int[], $18::uuid[], $19::int[], $20::bigint[], $21::text[])
           AS given (order_id, position, product_id, quantity, unit_price, currency)
      LEFT JOIN products ON products.id = given.product_id AND products.is_active AND products.deleted_at IS NULL
           AND products.price = given.unit_price AND products.currency = given.currency
), customers AS (
    SELECT accounts.id,
           CASE WHEN $27::int IS NULL THEN 0
                ELSE (SELECT count(*) FROM (SELECT 1 FROM orders WHERE orders.customer_id = accounts.id
                                               AND orders.ended_at IS NULL LIMIT $27::int) AS open) END AS open
      FROM accounts WHERE accounts.id IN (SELECT customer_id FROM given) AND accounts.is_active AND accounts.deleted_at IS NULL
), judged AS (
    SELECT given.*,
           CASE WHEN customers.id IS NULL THEN 'barred'
                WHEN EXISTS (SELECT 1 FROM lines WHERE lines.order_id = given.id AND is_stale) THEN 'stale'
                WHEN $27::int IS NOT NULL AND customers.open
                     + row_number() OVER (PARTITION BY given.customer_id ORDER BY given.id) > $27::int THEN 'full'
                ELSE 'fine' END AS verdict
      FROM given LEFT JOIN customers ON customers.id = given.customer_id
), keys AS (
    INSERT INTO idempotency_keys (customer_id, key, fingerprint, subject, answer, created_at)
    SELECT customer_id, key, fingerprint, id, answer, created_at FROM judged
     WHERE verdict = 'fine' AND key IS NOT NULL ORDER BY customer_id, key
        ON CONFLICT DO NOTHING
    RETURNING subject
), won AS (
    SELECT judged.* FROM judged LEFT JOIN keys ON keys.subject = judged.id
     WHERE judged.verdict = 'fine' AND (judged.key IS NULL OR keys.subject IS NOT NULL)
), placed AS (
    INSERT INTO orders (id, customer_id, saga_id, total_amount, currency, payment_method, shipping_address, notes,
                        correlation_id, created_at, updated_at)
    SELECT id, customer_id, saga_id, total_amount, currency, payment_method, shipping_address::jsonb, notes,
           correlation_id, created_at, created_at FROM won
), lined AS (
    INSERT INTO order_lines (order_id, position, product_id, sku, product_name, quantity, unit_price)
    SELECT order_id, position, product_id, sku, name, quantity, unit_price FROM lines
     WHERE order_id IN (SELECT id FROM won)
), remembered AS (
    INSERT INTO order_moves (order_id, from_state, to_state, actor, at) SELECT id, NULL, 'PENDING', 'customer', created_at FROM won
), begun AS (
    INSERT INTO sagas (id, kind, version, subject, step, queue, priority, reached, since, correlation_id, created_at, updated_at,
                       traceparent)
    SELECT saga_id, $22, $23::int, id, $24, $25, 1, $26, now(), correlation_id, now(), now(), traceparent FROM won
), told AS (
    INSERT INTO outbox (id, type, aggregate_type, aggregate_id, correlation_id, payload, traceparent)
    SELECT event_id, 'OrderCreated', 'order', id, correlation_id, payload::jsonb, traceparent FROM won
), woken AS (
    -- The relay, as soon as this is committed.
    SELECT pg_notify('comanda_outbox', '') AS at FROM (SELECT 1 FROM won LIMIT 1) AS any_won
)
SELECT judged.id, CASE WHEN judged.verdict <> 'fine' THEN judged.verdict WHEN won.id IS NULL THEN 'taken' ELSE 'accepted' END AS verdict
  FROM judged LEFT JOIN won ON won.id = judged.id LEFT JOIN woken ON true;

-- name: placed
-- Which of these orders exist: after a connection was lost at COMMIT.
SELECT id FROM orders WHERE id = ANY($1::uuid[]);
