-- What `comanda doctor --repair` proposes to run, with its values filled in. Nothing here is ever executed by Comanda:
-- it stands here so that it can be prepared against the schema, like every other statement.

-- name: move
-- A movement, and nothing else: what it says of the stock is true already.
INSERT INTO movements (id, product_id, location, kind, on_hand_delta, held_delta, order_id, actor, reason)
VALUES (uuid_v7(), $1::uuid, $2::text, 'SYSTEM_CORRECTION', $3::bigint, $4::bigint, $5::uuid, 'doctor', $6::text);

-- name: hold
-- What is held, with its movement.
WITH moved AS (
    INSERT INTO movements (id, product_id, location, kind, on_hand_delta, held_delta, actor, reason)
    VALUES (uuid_v7(), $1::uuid, $2::text, 'SYSTEM_CORRECTION', 0, $3::bigint, 'doctor', $4::text)
)
UPDATE stock SET held = held + $3::bigint, updated_at = now() WHERE product_id = $1::uuid AND location = $2::text;

-- name: rebook
-- The order's last reservation, in the state that its movements tell.
UPDATE reservations SET state = $2::text, ended_at = CASE WHEN $2::text <> 'ACTIVE' THEN coalesce(ended_at, now()) END
 WHERE id = (SELECT id FROM reservations WHERE order_id = $1::uuid ORDER BY id DESC LIMIT 1);

-- name: expire
-- The relay lets go of it within a second, with its movements and events.
UPDATE reservations SET expires_at = now() WHERE id = $1::uuid AND state = 'ACTIVE';

-- name: give_back
-- What was sold goes back to where it lay.
WITH returned AS (
    UPDATE reservations SET state = 'RELEASED' WHERE id = $1::uuid AND state = 'FULFILLED' RETURNING id, order_id
), lines AS (
    SELECT order_id, product_id, location, quantity
      FROM returned JOIN reservation_lines ON reservation_id = returned.id
), moved AS (
    INSERT INTO movements (id, product_id, location, kind, on_hand_delta, held_delta, order_id, actor)
    SELECT uuid_v7(), product_id, location, 'RETURN', quantity, 0, order_id, 'doctor' FROM lines
)
UPDATE stock SET on_hand = on_hand + quantity, updated_at = now() FROM lines
 WHERE stock.product_id = lines.product_id AND stock.location = lines.location;

-- name: sell
-- What was held for an order leaves the stock, from where it lay; if it has expired since, from what lies there now.
WITH chosen AS (
    SELECT id, state FROM reservations WHERE order_id = $1::uuid ORDER BY id DESC LIMIT 1 FOR UPDATE
), sold AS (
    UPDATE reservations SET state = 'FULFILLED', ended_at = coalesce(ended_at, now())
      FROM chosen WHERE reservations.id = chosen.id AND chosen.state IN ('ACTIVE', 'EXPIRED')
    RETURNING reservations.id, order_id, chosen.state
), lines AS (
    SELECT order_id, product_id, location, quantity, CASE state WHEN 'ACTIVE' THEN quantity ELSE 0 END AS held
      FROM sold JOIN reservation_lines ON reservation_id = sold.id
), moved AS (
    INSERT INTO movements (id, product_id, location, kind, on_hand_delta, held_delta, order_id, actor)
    SELECT uuid_v7(), product_id, location, 'SALE', -quantity, -held, order_id, 'doctor' FROM lines
)
UPDATE stock SET on_hand = on_hand - quantity, held = stock.held - lines.held, updated_at = now() FROM lines
 WHERE stock.product_id = lines.product_id AND stock.location = lines.location;

-- name: record
-- A payment that the gateway has kept whole. Of an order whose charge was skipped there is no note yet.
INSERT INTO payments (id, order_id, key, state, amount, captured, currency, method)
SELECT uuid_v7(), id, $2::text, 'SUCCEEDED', total_amount, total_amount, currency, payment_method
  FROM orders WHERE id = $1::uuid
    ON CONFLICT (order_id) DO UPDATE SET state = 'SUCCEEDED', captured = payments.amount, refunded = 0,
       updated_at = now();

-- name: record_return
-- A payment that was given back as far as anything was captured.
UPDATE payments SET refunded = captured, state = CASE captured WHEN 0 THEN 'FAILED' ELSE 'REFUNDED' END,
       updated_at = now()
 WHERE order_id = $1::uuid;

-- name: tell
-- A message that nobody has written yet, and its delivery; workers take it within seconds.
WITH told AS (
    SELECT orders.id AS order_id, orders.correlation_id, orders.failure_reason, orders.currency, orders.total_amount,
           accounts.email, accounts.language, accounts.first_name,
           (SELECT jsonb_agg(jsonb_build_object('name', product_name, 'quantity', quantity, 'unit_price', unit_price,
                                                'total', quantity * unit_price) ORDER BY position)
              FROM order_lines WHERE order_lines.order_id = orders.id) AS lines
      FROM orders JOIN accounts ON accounts.id = orders.customer_id WHERE orders.id = $1::uuid
), stored AS (
    INSERT INTO notifications (id, order_id, kind, channel, recipient, language, variables)
    SELECT uuid_v7(), order_id, $2::text, 'email', email, language,
           jsonb_build_object('order_id', order_id, 'first_name', first_name, 'currency', currency,
                              'total_amount', total_amount, 'reason', failure_reason, 'lines', lines)
      FROM told
        ON CONFLICT (order_id, kind, channel, occasion) DO NOTHING
    RETURNING id, order_id
)
INSERT INTO sagas (id, kind, version, subject, step, queue, priority, reached, since, correlation_id, created_at,
                   updated_at)
SELECT uuid_v7(), 'notification', 1, stored.id, 'deliver', 'notification-sending', 2, 'STARTED', now(),
       told.correlation_id, now(), now()
  FROM stored JOIN told USING (order_id);

-- name: begin_again
-- The order's saga under its old id: what it did outside had keys made of that id. It stands at the step that fits the
-- order's state; each step finds what it has done already, and does it once.
INSERT INTO sagas (id, kind, version, subject, state, step, direction, queue, attempt, reached, reason, since,
                   correlation_id, created_at, updated_at)
SELECT orders.saga_id, 'order', 1, orders.id,
       CASE orders.state WHEN 'PAYMENT_FAILED' THEN 'COMPENSATING' ELSE 'RUNNING' END,
       CASE WHEN orders.state IN ('PENDING', 'PROCESSING') THEN 'verify_stock' ELSE 'process_payment' END,
       CASE orders.state WHEN 'PAYMENT_FAILED' THEN 'backward' ELSE 'forward' END,
       CASE WHEN orders.state IN ('PENDING', 'PROCESSING') THEN 'order-processing' ELSE 'payment-processing' END,
       CASE orders.state WHEN 'PAYMENT_PENDING' THEN 1 ELSE 0 END,
       CASE WHEN orders.state IN ('PENDING', 'PROCESSING') THEN 'STARTED' ELSE 'STOCK_RESERVED' END,
       CASE orders.state WHEN 'PAYMENT_FAILED' THEN coalesce(orders.failure_reason, 'PAYMENT_UNAVAILABLE') END,
       now(), orders.correlation_id, now(), now()
  FROM orders WHERE orders.id = $1::uuid AND orders.ended_at IS NULL;
