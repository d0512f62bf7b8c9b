-- What benchmarks/console.py adds to a shop with many finished orders (benchmarks/doctor.sql): what needs an operator, a
-- catalogue, more customers, webhooks, an audit log; and what it asks about.

-- name: catalogue
-- 50,000 products with stock.
WITH made AS (
    INSERT INTO products (id, sku, name, brand, description, price)
    SELECT uuid_v7(), 'SHOP-' || n, initcap(a.words[1 + n % 10] || ' ' || b.words[1 + n / 10 % 10]) || ' ' || n,
           initcap(b.words[1 + n % 7]), 'A ' || a.words[1 + n % 10] || ' thing for the ' || b.words[1 + n / 7 % 10], 100 + n % 900
      FROM generate_series(1, 50000) AS n,
           (SELECT string_to_array('red green blue heavy light small large round plain old', ' ') AS words) AS a,
           (SELECT string_to_array('kettle lamp chair table spoon bottle blanket mirror basket brush', ' ') AS words) AS b
    RETURNING id
)
INSERT INTO stock (product_id, location, on_hand) SELECT id, 'MAIN', 100 FROM made;

-- name: shoppers
-- 200,000 who have not ordered yet, and forty of the staff.
INSERT INTO accounts (id, email, password_hash, first_name, last_name, role)
SELECT uuid_v7(), 'shopper-' || n || '@example.com', 'none', 'Eva', 'Martín',
       CASE WHEN n % 5000 = 0 THEN 'viewer' ELSE 'customer' END
  FROM generate_series(1, 200000) AS n;

-- name: troubled
-- 7,000 orders that have not ended: 2,000 are stuck, from the last ten days, three of them with long stories; of those of the
-- last minutes 3,500 wait for a retry, 1,500 are in a worker's hands, for a day.
CREATE UNLOGGED TABLE bench_open AS
SELECT n, at, bench_id(at, 40, n) AS id, bench_id(at, 41, n) AS saga_id, customers.ids[1 + n % 1000] AS customer_id, goods.ids,
       CASE WHEN n <= 2000 THEN 'stuck' WHEN n <= 5500 THEN 'waits' ELSE 'called' END AS fate,
       (ARRAY['the gateway answered 500', 'no answer within 5 s', 'connection refused', 'certificate has expired',
              'void of charge 4711 refused', 'refund of 12.50 refused: account closed', 'unknown key', 'too many requests',
              'DNS: no such host', 'broken pipe', 'amount differs by 1 cent', 'currency is not supported'])[1 + n * n % 12] AS error
  FROM (SELECT n, CASE WHEN n <= 2000 THEN now() - interval '7 min' * n ELSE now() - interval '100 ms' * n END AS at
          FROM generate_series(1, 7000) AS n) AS orders,
       (SELECT array_agg(id ORDER BY id) AS ids FROM products WHERE sku LIKE 'BENCH-%') AS goods,
       (SELECT array_agg(id ORDER BY id) AS ids FROM accounts WHERE email LIKE 'customer-%') AS customers;

-- name: troubled_orders
INSERT INTO orders (id, customer_id, saga_id, state, total_amount, currency, payment_method, correlation_id, created_at, updated_at)
SELECT id, customer_id, saga_id, 'PAYMENT_PENDING', 2000, 'USD', 'pm_success', 'open-' || n, at, at FROM bench_open;

-- name: troubled_lines
INSERT INTO order_lines (order_id, position, product_id, sku, product_name, quantity, unit_price)
SELECT id, position, ids[1 + (n + position) % 100], 'BENCH', 'Product', 1, 1000 FROM bench_open, generate_series(1, 2) AS position;

-- name: troubled_moves
INSERT INTO order_moves (order_id, from_state, to_state, actor, at)
SELECT id, before, after, 'order', at FROM bench_open,
       (VALUES (NULL, 'PENDING'), ('PENDING', 'PROCESSING'), ('PROCESSING', 'PAYMENT_PENDING')) AS move (before, after);

-- name: troubled_sagas
INSERT INTO sagas (id, kind, version, subject, state, step, direction, queue, attempt, reached, since, waits_until, lease_until,
                   worker, token, reason, note, correlation_id, created_at, updated_at)
SELECT saga_id, 'order', 1, id, CASE fate WHEN 'stuck' THEN 'COMPENSATION_FAILED' ELSE 'RUNNING' END, 'process_payment',
       CASE fate WHEN 'stuck' THEN 'backward' ELSE 'forward' END, 'payment-processing', 2, 'PAYMENT_PROCESSING', at,
       CASE fate WHEN 'waits' THEN now() + interval '1 day' + interval '1 ms' * n END,
       CASE fate WHEN 'called' THEN now() + interval '1 day' END, CASE fate WHEN 'called' THEN 'worker-' || n % 4 END, 2,
       CASE fate WHEN 'stuck' THEN error END, CASE WHEN fate <> 'called' THEN error END, 'open-' || n, at, at
  FROM bench_open;

-- name: troubled_attempts
-- Twelve each; three thousand of each of the first three.
INSERT INTO saga_attempts (saga_id, at, step, direction, attempt, outcome, detail, worker, duration_ms)
SELECT saga_id, bench_open.at + interval '1 s' * m, 'process_payment', CASE WHEN m % 2 = 0 THEN 'backward' ELSE 'forward' END, m,
       CASE WHEN m % 5 = 0 THEN 'later' ELSE 'failed' END, error, 'worker-1', 5000
  FROM bench_open, generate_series(1, CASE WHEN n <= 3 THEN 3000 ELSE 12 END) AS m;

-- name: troubled_events
INSERT INTO outbox (id, type, aggregate_type, aggregate_id, payload, at)
SELECT bench_id(at + interval '1 s' * m, 42, n * 1000 + m), 'OrderNoted', 'order', id, '{}', at + interval '1 s' * m
  FROM bench_open, generate_series(1, CASE WHEN n <= 3 THEN 60 ELSE 3 END) AS m;

-- name: handed_on
UPDATE outbox_cursors SET (xid, id) = (SELECT xid, id FROM outbox ORDER BY xid DESC, id DESC LIMIT 1);

-- name: letters
INSERT INTO dead_letters (id, saga_id, queue, step, direction, error, created_at)
SELECT bench_id(at, 43, n), saga_id, 'payment-processing', 'process_payment', 'backward', error, at
  FROM bench_open WHERE fate = 'stuck';

-- name: acts
INSERT INTO audit (id, actor, act, subject, reason, detail)
SELECT uuid_v7(), 'ana@example.com', 'saga.retry', saga_id::text, 'the gateway is mended', '{"was": "stuck", "now": "RUNNING"}'::jsonb
  FROM (SELECT saga_id FROM orders ORDER BY id DESC LIMIT 100000) AS newest
UNION ALL
SELECT uuid_v7(), 'ana@example.com', 'saga.retry', saga_id::text, 'once more', '{}'
  FROM bench_open, generate_series(1, 100) WHERE n <= 3;

-- name: endpoints
-- Switched off: nobody is told of the orders that are placed here.
INSERT INTO webhook_endpoints (id, url, secret, is_active, disabled_reason)
SELECT uuid_v7(), 'https://' || name || '.example.com/hook', sha256(name::bytea), false, 'SWITCHED_OFF'
  FROM unnest(ARRAY['erp', 'mail', 'warehouse']) AS name;

-- name: deliveries
-- Every confirmation to each endpoint, the newest 100,000; one in a hundred failed.
WITH sent AS (
    INSERT INTO webhook_deliveries (id, endpoint_id, event_id, event_type, lane, body, state, correlation_id, created_at, ended_at)
    SELECT bench_id(event.at, 50 + endpoint.n::int, event.n), endpoint.id, event.id, 'OrderConfirmed', event.aggregate_id,
           '{"type": "OrderConfirmed", "data": {"orderId": "' || event.aggregate_id || '"}}',
           CASE WHEN event.n % 100 = 0 THEN 'FAILED' ELSE 'DELIVERED' END, 'webhook', event.at, event.at + interval '1 s'
      FROM (SELECT id, aggregate_id, at, row_number() OVER (ORDER BY id) AS n
              FROM (SELECT id, aggregate_id, at FROM outbox WHERE type = 'OrderConfirmed' ORDER BY id DESC LIMIT 100000) AS newest
           ) AS event, (SELECT id, row_number() OVER (ORDER BY id) AS n FROM webhook_endpoints) AS endpoint
    RETURNING id, state, created_at
), tried AS (
    INSERT INTO webhook_attempts (delivery_id, attempt, at, status, answer, error, duration_ms)
    SELECT id, m, created_at + interval '10 s' * m, CASE state WHEN 'FAILED' THEN 500 ELSE 200 END, 'ok', NULL, 30
      FROM sent, generate_series(1, CASE state WHEN 'FAILED' THEN 5 ELSE 1 END) AS m
)
INSERT INTO sagas (id, kind, version, subject, state, step, direction, queue, reached, since, correlation_id, created_at,
                   updated_at, ended_at)
SELECT bench_id(created_at, 60, row_number() OVER (ORDER BY id)), 'webhook', 1, id,
       CASE state WHEN 'FAILED' THEN 'COMPENSATED' ELSE 'COMPLETED' END, 'deliver', 'forward', 'notification-sending',
       'DELIVERED', created_at, 'webhook', created_at, created_at, created_at
  FROM sent;

-- name: drop_troubled
DROP TABLE bench_open;

-- name: rows
-- How many there are.
SELECT (SELECT count(*) FROM orders) AS orders, (SELECT count(*) FROM sagas) AS sagas,
       (SELECT count(*) FROM saga_attempts) AS attempts, (SELECT count(*) FROM order_moves) AS moves,
       (SELECT count(*) FROM outbox) AS events, (SELECT count(*) FROM mailbox) AS mails,
       (SELECT count(*) FROM movements) AS movements, (SELECT count(*) FROM webhook_deliveries) AS deliveries,
       (SELECT count(*) FROM audit) AS acts, (SELECT count(*) FROM accounts) AS accounts,
       (SELECT count(*) FROM stock) AS places, (SELECT count(*) FROM dead_letters WHERE redriven_at IS NULL) AS letters,
       (SELECT count(*) FROM sagas WHERE state = 'COMPENSATION_FAILED') AS stuck,
       round(pg_database_size(current_database()) / 2.0^30, 1)::float AS gib;

-- name: examples
-- What the pages are asked about. `deep`: nine tenths of all orders are newer.
WITH confirmed AS (SELECT * FROM orders WHERE state = 'CONFIRMED' AND id < uuid_floor(now() - interval '1 day') ORDER BY id DESC LIMIT 1),
     cancelled AS (SELECT * FROM orders WHERE state = 'CANCELLED' AND id < uuid_floor(now() - interval '1 day') ORDER BY id DESC LIMIT 1),
     stuck AS (SELECT * FROM sagas WHERE state = 'COMPENSATION_FAILED' ORDER BY id OFFSET 1000 LIMIT 1)
SELECT confirmed.id AS confirmed, confirmed.saga_id AS saga, confirmed.customer_id AS customer, cancelled.id AS cancelled,
       stuck.subject AS stuck, stuck.id AS stuck_saga,
       (SELECT subject FROM sagas WHERE state = 'COMPENSATION_FAILED' ORDER BY id DESC LIMIT 1) AS long_story,
       (SELECT id FROM payments WHERE order_id = confirmed.id) AS payment,
       (SELECT id FROM notifications WHERE order_id = confirmed.id LIMIT 1) AS message,
       (SELECT email FROM accounts WHERE id = confirmed.customer_id) AS email,
       (SELECT id FROM orders ORDER BY id DESC OFFSET $1 / 2 LIMIT 1) AS half,
       (SELECT id FROM orders ORDER BY id DESC OFFSET $1 / 10 * 9 LIMIT 1) AS deep,
       (SELECT id FROM products WHERE sku = 'BENCH-7') AS product,
       (SELECT array_agg(fingerprint) FROM (SELECT DISTINCT fingerprint FROM dead_letters WHERE redriven_at IS NULL) AS alike)
           AS fingerprints,
       (SELECT array_agg(id) FROM webhook_endpoints) AS endpoints,
       (SELECT id FROM dead_letters WHERE redriven_at IS NULL ORDER BY id DESC LIMIT 1) AS letter,
       (SELECT id FROM payments ORDER BY id DESC OFFSET $1 / 10 * 9 LIMIT 1) AS deep_payment,
       (SELECT id FROM webhook_deliveries ORDER BY id OFFSET 1000 LIMIT 1) AS delivery,
       (SELECT key FROM mailbox ORDER BY sent_at DESC LIMIT 1) AS mail,
       (SELECT id FROM audit ORDER BY id OFFSET 1000 LIMIT 1) AS act,
       (SELECT id FROM accounts ORDER BY id OFFSET 1000 LIMIT 1) AS account
  FROM confirmed, cancelled, stuck;

-- name: bury
INSERT INTO dead_letters (id, queue, step, direction, error)
SELECT uuid_v7(), 'order-processing', 'reserve_inventory', 'forward', 'broken for the benchmark';

-- name: strand
-- One of those that wait is stuck.
UPDATE sagas SET state = 'COMPENSATION_FAILED', waits_until = NULL
 WHERE id = (SELECT id FROM sagas WHERE waits_until IS NOT NULL AND state = 'RUNNING' ORDER BY waits_until LIMIT 1);

-- name: mend
-- As it was before: in a kept folder the next run finds what this one found.
WITH gone AS (DELETE FROM dead_letters WHERE error = 'broken for the benchmark')
UPDATE sagas SET state = 'RUNNING', waits_until = now() + interval '1 day', lease_until = NULL
 WHERE state = 'COMPENSATION_FAILED' AND direction = 'forward' AND correlation_id LIKE 'open-%';

-- name: stay
-- What is to stand still does so for another day.
UPDATE sagas SET waits_until = waits_until + interval '1 day', lease_until = lease_until + interval '1 day'
 WHERE correlation_id LIKE 'open-%' AND state = 'RUNNING';
