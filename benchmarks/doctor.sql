-- A shop with many orders behind it, as the real one leaves its rows: each row of each finished order, in order of time.
-- What a shop may drop when it is old (events, attempts; the mock's mails) is there for the last 28 days.

-- name: ids
-- The id of the nth order's row of some kind: a UUIDv7 of that moment, the same whenever it is asked for.
CREATE FUNCTION bench_id(at timestamptz, kind integer, n bigint) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70' || lpad(to_hex(kind), 2, '0')
            || '8' || lpad(to_hex(n), 15, '0'))::uuid;

-- name: weeks
-- The partitions that a shop of that age has.
DO $$
DECLARE
    week timestamptz;
    name text;
BEGIN
    PERFORM ensure_partitions();
    FOR week IN SELECT generate_series(date_trunc('week', now(), 'UTC') - interval '15 weeks',
                                       now() - interval '1 week', interval '1 week') LOOP
        name := to_char(week AT TIME ZONE 'UTC', '_IYYY"w"IW');
        IF to_regclass('outbox' || name) IS NULL THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF outbox FOR VALUES FROM (%L) TO (%L)',
                           'outbox' || name, uuid_floor(week), uuid_floor(week + interval '1 week'));
            EXECUTE format('CREATE TABLE %I PARTITION OF saga_attempts FOR VALUES FROM (%L) TO (%L)',
                           'saga_attempts' || name, week, week + interval '1 week');
        END IF;
    END LOOP;
END $$;

-- name: products
INSERT INTO products (id, sku, name, price, created_at, updated_at)
SELECT bench_id(now() - interval '1 year', 1, n), 'OLD-' || n, 'Product ' || n, 100 * n,
       now() - interval '1 year', now() - interval '1 year'
  FROM generate_series(1, 100) AS n;

-- name: customers
INSERT INTO accounts (id, email, password_hash, first_name, last_name)
SELECT bench_id(now() - interval '1 year', 2, n), 'customer-' || n || '@example.com', 'none', 'Ana', 'García'
  FROM generate_series(1, 1000) AS n;

-- name: plan
-- $1 orders, $2 of them a day. Of a thousand, $3 are confirmed; those up to $4 are declined, up to $5 out of stock, and the
-- others undone after their payment.
-- It stands in order of time, and so does all that is read from it. Products are those that a benchmark orders, where there
-- are such: they have a past then.
CREATE UNLOGGED TABLE bench AS
SELECT n, at, bench_id(at, 3, n) AS id, bench_id(at, 4, n) AS saga_id, bench_id(at, 5, n) AS reservation_id,
       bench_id(at + interval '1 s', 6, n) AS message_id, customers.ids[1 + n % 1000] AS customer_id,
       CASE WHEN n % 1000 < $3 THEN 'confirmed' WHEN n % 1000 < $4 THEN 'declined'
            WHEN n % 1000 < $5 THEN 'out of stock' ELSE 'undone' END AS fate,
       first, second, 1 + n % 3 AS units, goods.ids[first] AS first_id, goods.ids[second] AS second_id
  FROM (SELECT n, now() - interval '1 minute' - interval '1 day' * ($1::bigint - n) / $2::bigint AS at,
               1 + (n * 7919::bigint) % 50 AS first, 51 + (n * 104729::bigint) % 50 AS second
          FROM generate_series(1::bigint, $1::bigint) AS n) AS orders,
       (SELECT array_agg(id ORDER BY substring(sku FROM '[0-9]+')::int) AS ids FROM products
         WHERE sku LIKE CASE WHEN EXISTS (SELECT 1 FROM products WHERE sku = 'BENCH-1') THEN 'BENCH-%' ELSE 'OLD-%' END)
       AS goods,
       (SELECT array_agg(id ORDER BY id) AS ids FROM accounts WHERE email LIKE 'customer-%') AS customers;

-- name: packed
-- Pages of rows that have been through their updates are fuller than where new ones are put: those grow within theirs. Filled
-- to the same mark, each page would have room for one new row more, and new orders would be strewn over all of the old ones.
DO $$
DECLARE
    one record;
BEGIN
    CREATE TABLE bench_fillfactors AS
    SELECT oid::regclass::text AS name, substring(reloption FROM '[0-9]+')::int AS fillfactor
      FROM pg_class CROSS JOIN unnest(reloptions) AS reloption
     WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND reloption LIKE 'fillfactor=%';
    FOR one IN SELECT name, fillfactor FROM bench_fillfactors LOOP
        EXECUTE format('ALTER TABLE %s SET (fillfactor = %s)', one.name, least(one.fillfactor + 10, 100));
    END LOOP;
END $$;

-- name: unpacked
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT name, fillfactor FROM bench_fillfactors LOOP
        EXECUTE format('ALTER TABLE %s SET (fillfactor = %s)', one.name, one.fillfactor);
    END LOOP;
    DROP TABLE bench_fillfactors;
END $$;

-- name: orders
INSERT INTO orders (id, customer_id, saga_id, state, total_amount, currency, payment_method, shipping_address,
                    failure_reason, correlation_id, created_at, updated_at, ended_at)
SELECT id, customer_id, saga_id, CASE fate WHEN 'confirmed' THEN 'CONFIRMED' ELSE 'CANCELLED' END,
       100 * (first * units + second), 'USD', 'pm_success',
       '{"street": "Calle de Alcalá 1", "city": "Madrid", "postalCode": "28014", "country": "ES"}',
       CASE fate WHEN 'confirmed' THEN NULL WHEN 'declined' THEN 'CARD_DECLINED'
                 WHEN 'out of stock' THEN 'OUT_OF_STOCK' ELSE 'RESERVATION_EXPIRED' END,
       'correlation-' || n, at, at + interval '2 s', at + interval '2 s'
  FROM bench;

-- name: lines
INSERT INTO order_lines (order_id, position, product_id, sku, product_name, quantity, unit_price)
SELECT bench.id, line.position, line.product_id, 'SKU-' || line.number, 'Product ' || line.number, line.quantity,
       100 * line.number
  FROM bench CROSS JOIN LATERAL (VALUES (1, first_id, first, units), (2, second_id, second, 1))
                        AS line (position, product_id, number, quantity);

-- name: moves
INSERT INTO order_moves (order_id, from_state, to_state, actor, at)
SELECT id, move.before, move.after, 'order', bench.at + interval '300 ms' * move.position
  FROM bench
 CROSS JOIN LATERAL (VALUES (0, NULL, 'PENDING', true), (1, 'PENDING', 'PROCESSING', true),
                            (2, 'PROCESSING', 'CANCELLED', fate = 'out of stock'),
                            (2, 'PROCESSING', 'PAYMENT_PENDING', fate <> 'out of stock'),
                            (3, 'PAYMENT_PENDING', 'CONFIRMED', fate = 'confirmed'),
                            (3, 'PAYMENT_PENDING', 'PAYMENT_FAILED', fate = 'declined'),
                            (4, 'PAYMENT_FAILED', 'CANCELLED', fate = 'declined'),
                            (4, 'PAYMENT_PENDING', 'CANCELLED', fate = 'undone')) AS move (position, before, after, is_made)
 WHERE is_made;

-- name: sagas
INSERT INTO sagas (id, kind, version, subject, state, step, direction, queue, reached, since, correlation_id,
                   created_at, updated_at, ended_at)
SELECT saga.id, saga.kind, 1, saga.subject,
       CASE WHEN saga.kind = 'notification' OR fate = 'confirmed' THEN 'COMPLETED' ELSE 'COMPENSATED' END, saga.step,
       'forward', saga.queue, saga.reached, at, 'correlation-' || n, at, at + interval '2 s', at + interval '2 s'
  FROM bench
 CROSS JOIN LATERAL (VALUES (saga_id, 'order', bench.id, 'complete_order', 'order-processing', 'CONFIRMED'),
                            (bench_id(at, 7, n), 'notification', message_id, 'deliver', 'notification-sending',
                             'DELIVERED')) AS saga (id, kind, subject, step, queue, reached);

-- name: attempts
INSERT INTO saga_attempts (saga_id, at, step, direction, attempt, outcome, worker, duration_ms)
SELECT saga_id, at + interval '200 ms' * (step.position - 1), step.name, 'forward', 1, 'done', 'worker-1', 4.2
  FROM bench CROSS JOIN unnest(ARRAY['verify_stock', 'reserve_inventory', 'process_payment', 'confirm_reservation',
                                     'send_confirmation', 'complete_order']) WITH ORDINALITY AS step (name, position)
 WHERE bench.at > now() - interval '28 days';

-- name: reservations
INSERT INTO reservations (id, order_id, state, expires_at, created_at, ended_at)
SELECT reservation_id, id, CASE fate WHEN 'confirmed' THEN 'FULFILLED' ELSE 'RELEASED' END, at + interval '30 min', at,
       at + interval '1 s'
  FROM bench WHERE fate <> 'out of stock';

-- name: reserved_lines
INSERT INTO reservation_lines (reservation_id, product_id, location, quantity)
SELECT reservation_id, line.product_id, 'MAIN', line.quantity
  FROM bench CROSS JOIN LATERAL (VALUES (first_id, units), (second_id, 1)) AS line (product_id, quantity)
 WHERE fate <> 'out of stock';

-- name: movements
INSERT INTO movements (id, product_id, location, kind, on_hand_delta, held_delta, order_id, actor, at)
SELECT bench_id(at + interval '300 ms', 8 + step.position, n * 2 + line.position), line.product_id, 'MAIN', step.kind,
       step.on_hand * quantity, step.held * quantity, bench.id, 'order', at + interval '300 ms'
  FROM bench CROSS JOIN LATERAL (VALUES (1, first_id, units), (2, second_id, 1)) AS line (position, product_id, quantity)
 CROSS JOIN LATERAL (VALUES (1, 'RESERVATION', 0, 1, true), (2, 'SALE', -1, -1, fate = 'confirmed'),
                            (2, 'RELEASE_RESERVATION', 0, -1, fate <> 'confirmed'))
            AS step (position, kind, on_hand, held, is_made)
 WHERE fate <> 'out of stock' AND is_made;

-- name: restocks
INSERT INTO movements (id, product_id, location, kind, on_hand_delta, held_delta, actor, at)
SELECT uuid_v7(), id, 'MAIN', 'RESTOCK', 1000000000, 0, 'admin', created_at FROM products WHERE sku LIKE 'OLD-%';

-- name: stock
INSERT INTO stock (product_id, location, on_hand, held)
SELECT product_id, location, sum(on_hand_delta), sum(held_delta) FROM movements
 WHERE product_id IN (SELECT id FROM products WHERE sku LIKE 'OLD-%') GROUP BY product_id, location;

-- name: payments
INSERT INTO payments (id, order_id, key, state, amount, captured, refunded, currency, method, gateway_id, created_at)
SELECT bench_id(at, 12, n), id, saga_id || ':process_payment:forward',
       CASE fate WHEN 'confirmed' THEN 'SUCCEEDED' WHEN 'undone' THEN 'REFUNDED' ELSE 'FAILED' END, amount,
       CASE fate WHEN 'declined' THEN 0 ELSE amount END, CASE fate WHEN 'undone' THEN amount ELSE 0 END, 'USD',
       'pm_success', 'charge-' || n, at
  FROM (SELECT *, 100 * (first * units + second) AS amount FROM bench) AS bench
 WHERE fate <> 'out of stock';

-- name: events
INSERT INTO outbox (id, type, aggregate_type, aggregate_id, correlation_id, payload, at)
SELECT bench_id(bench.at + interval '200 ms' * event.position, 16 + event.position, n), event.type, event.kind, event.subject,
       'correlation-' || n,
       jsonb_build_object('orderId', id, 'customerId', customer_id, 'currency', 'USD', 'seconds', 1.25,
                          'lines', jsonb_build_array(jsonb_build_object('product', first, 'quantity', units),
                                                     jsonb_build_object('product', second, 'quantity', 1))),
       bench.at + interval '200 ms' * event.position
  FROM bench
 CROSS JOIN LATERAL (VALUES (0, 'OrderCreated', 'order', id, true),
                            (1, 'InventoryReserved', 'reservation', reservation_id, fate <> 'out of stock'),
                            (2, 'PaymentInitiated', 'order', id, fate <> 'out of stock'),
                            (3, 'PaymentProcessed', 'payment', bench_id(bench.at, 12, n), fate IN ('confirmed', 'undone')),
                            (4, 'ReservationConfirmed', 'reservation', reservation_id, fate = 'confirmed'),
                            (5, 'StockUpdated', 'product', bench_id(now() - interval '1 year', 1, first), fate = 'confirmed'),
                            (6, 'OrderConfirmed', 'order', id, fate = 'confirmed'),
                            (7, 'OrderCancelled', 'order', id, fate <> 'confirmed')) AS event (position, type, kind, subject, is_told)
 WHERE is_told AND bench.at > now() - interval '28 days';

-- name: handed_on
UPDATE outbox_cursors SET (xid, id) = (SELECT xid, id FROM outbox ORDER BY xid DESC, id DESC LIMIT 1);

-- name: messages
INSERT INTO notifications (id, order_id, kind, channel, recipient, language, variables, state, provider_id, created_at, sent_at)
SELECT message_id, id, CASE fate WHEN 'confirmed' THEN 'order_confirmation' WHEN 'declined' THEN 'payment_failure'
                                 ELSE 'order_cancellation' END, 'email', 'customer@example.com', 'en',
       jsonb_build_object('order_id', id, 'first_name', 'Ana', 'currency', 'USD', 'total_amount', 100 * (first * units + second),
                          'lines', jsonb_build_array(jsonb_build_object('name', 'Product', 'quantity', units, 'unit_price', 100),
                                                     jsonb_build_object('name', 'Product', 'quantity', 1, 'unit_price', 100))),
       'SENT', 'mock-' || n, at, at + interval '2 s'
  FROM bench;

-- name: mails
INSERT INTO mailbox (key, channel, recipient, subject, body_text, body_html, order_id, sent_at)
SELECT bench_id(at, 7, n) || ':deliver:forward', 'email', 'customer@example.com', 'Your order', repeat('You ordered this. ', 20),
       repeat('<p>You ordered this.</p> ', 20), id, at + interval '2 s'
  FROM bench WHERE at > now() - interval '28 days';

-- name: keys
-- They live for two days.
INSERT INTO idempotency_keys (customer_id, key, fingerprint, subject, answer, created_at)
SELECT customer_id, 'key-' || n, sha256(id::text::bytea), id, ('{"orderId": "' || id || '"}')::bytea, at
  FROM bench WHERE at > now() - interval '2 days';

-- name: ledger
-- What the gateway has: a capture of each order that was paid, and a refund of each that was undone.
SELECT CASE line WHEN 1 THEN 'capture' ELSE 'refund' END AS type, id::text AS order_id,
       100 * (first * units + second) AS amount, 'USD' AS currency, saga_id || ':process_payment:forward' AS key, at
  FROM bench CROSS JOIN generate_series(1, 2) AS line
 WHERE fate = 'undone' OR fate = 'confirmed' AND line = 1
 ORDER BY n, line; -- a ledger is written in order of time

-- name: drop_plan
DROP TABLE bench;
