-- Stock: verify, hold, let go, sell, take back. Rows of stock are always locked in the order of product and location.

-- name: verdicts
-- For each order: is every product on sale, and is there enough of it for this order alone?
SELECT order_lines.order_id,
       bool_and(coalesce(products.is_active AND products.deleted_at IS NULL, false)) AS is_on_sale,
       bool_and(coalesce(NOT products.track_inventory, false)
                OR order_lines.quantity <= coalesce((SELECT sum(on_hand - held) FROM stock
                                                      WHERE stock.product_id = order_lines.product_id), 0)) AS is_in_stock
  FROM order_lines LEFT JOIN products ON products.id = order_lines.product_id
 WHERE order_lines.order_id = ANY($1::uuid[])
 GROUP BY order_lines.order_id;

-- name: demands
-- What each order needs of what is tracked, in order of arrival; orders that hold stock already need nothing.
SELECT order_lines.order_id, order_lines.product_id, order_lines.quantity
  FROM order_lines JOIN products ON products.id = order_lines.product_id AND products.track_inventory
 WHERE order_lines.order_id = ANY($1::uuid[])
   AND NOT EXISTS (SELECT 1 FROM reservations
                    WHERE reservations.order_id = order_lines.order_id AND state IN ('ACTIVE', 'FULFILLED'))
 ORDER BY order_lines.order_id, order_lines.position;

-- name: free
-- What nobody holds of these products, locked until the commit.
SELECT product_id, location, on_hand - held AS free FROM stock
 WHERE product_id = ANY($1::uuid[])
 ORDER BY product_id, location
   FOR UPDATE;

-- name: lock_of_orders
-- Everything that these orders are about, locked in the one order: before a transaction locks parts of it one by one.
SELECT 1 FROM stock
 WHERE product_id IN (SELECT product_id FROM order_lines WHERE order_id = ANY($1::uuid[]))
 ORDER BY product_id, location
   FOR UPDATE;

-- name: hold
-- Reservations with their lines and movements, and the stock that they hold. The rows of stock are locked already.
WITH shares AS (
    SELECT * FROM unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::int[])
        AS given (reservation_id, order_id, product_id, location, quantity)
), reserved AS (
    INSERT INTO reservations (id, order_id, expires_at)
    SELECT id, order_id, now() + $8::interval FROM unnest($1::uuid[], $2::uuid[]) AS given (id, order_id)
), lines AS (
    INSERT INTO reservation_lines (reservation_id, product_id, location, quantity)
    SELECT reservation_id, product_id, location, quantity FROM shares
), moved AS (
    INSERT INTO movements (id, product_id, location, kind, on_hand_delta, held_delta, order_id, actor, reason)
    SELECT uuid_v7(), product_id, location, 'RESERVATION', 0, quantity, order_id, $9, $10 FROM shares
)
UPDATE stock SET held = held + taken.quantity, updated_at = now()
  FROM (SELECT product_id, location, sum(quantity) AS quantity FROM shares GROUP BY product_id, location) AS taken
 WHERE stock.product_id = taken.product_id AND stock.location = taken.location;

-- name: extend
-- Those whose reservation is still theirs, that is 'ACTIVE'; the ones that would end soon are prolonged. The state is not
-- written out here: the planner, knowing it, would read all that are active by their expiry rather than these by their order.
WITH active AS (
    SELECT id, order_id, expires_at FROM reservations
     WHERE order_id = ANY($1::uuid[]) AND state = $3 ORDER BY id FOR UPDATE
), prolonged AS (
    UPDATE reservations SET expires_at = now() + $2::interval FROM active
     WHERE reservations.id = active.id AND active.expires_at < now() + 0.9 * $2::interval
)
SELECT order_id FROM active;

-- name: end_of_orders
-- From one state to another, once: expiry, release and confirmation all come through here or `end_expired`.
UPDATE reservations SET state = $3, ended_at = coalesce(ended_at, now())
 WHERE id IN (SELECT id FROM reservations WHERE order_id = ANY($1::uuid[]) AND state = $2 ORDER BY id FOR UPDATE)
   AND state = $2
RETURNING id, order_id;

-- name: end_expired
UPDATE reservations SET state = 'EXPIRED', ended_at = now()
 WHERE id IN (SELECT id FROM reservations WHERE state = 'ACTIVE' AND expires_at <= now()
               ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING id, order_id;

-- name: settle
-- What ended reservations mean for the stock: $3 and $4 say how a unit changes what lies there and what is held.
WITH lines AS (
    SELECT ended.order_id, reservation_lines.product_id, reservation_lines.location, reservation_lines.quantity
      FROM unnest($1::uuid[], $2::uuid[]) AS ended (id, order_id)
      JOIN reservation_lines ON reservation_lines.reservation_id = ended.id
), locked AS (
    SELECT product_id, location FROM stock
     WHERE (product_id, location) IN (SELECT product_id, location FROM lines)
     ORDER BY product_id, location FOR UPDATE
), moved AS (
    INSERT INTO movements (id, product_id, location, kind, on_hand_delta, held_delta, order_id, actor, reason)
    SELECT uuid_v7(), product_id, location, $5, quantity * $3::int, quantity * $4::int, order_id, $6, $7 FROM lines
)
UPDATE stock SET on_hand = on_hand + changed.quantity * $3::int, held = held + changed.quantity * $4::int, updated_at = now()
  FROM (SELECT product_id, location, sum(quantity) AS quantity FROM lines GROUP BY product_id, location) AS changed
  JOIN locked USING (product_id, location)
 WHERE stock.product_id = changed.product_id AND stock.location = changed.location
RETURNING stock.product_id, stock.location, stock.on_hand, stock.held, stock.minimum_stock, changed.quantity;

-- name: sent_back
-- Units that refunds put back into the stock, where that has not been booked yet.
SELECT refunds.id AS refund_id, refunds.order_id, refund_lines.product_id, refund_lines.quantity
  FROM refunds JOIN refund_lines ON refund_lines.refund_id = refunds.id
 WHERE refunds.id = ANY($1::uuid[]) AND refund_lines.refund_id = ANY($1::uuid[]) AND refunds.is_restocked
   AND NOT EXISTS (SELECT 1 FROM movements
                    WHERE movements.order_id = refunds.order_id AND movements.reference = refunds.id)
 ORDER BY refunds.id, refund_lines.product_id;

-- name: sold_from
-- Where the units of orders were sold from, less those that came back there.
SELECT reservations.order_id, reservation_lines.product_id, reservation_lines.location,
       reservation_lines.quantity
       - coalesce((SELECT sum(on_hand_delta) FROM movements
                    WHERE movements.order_id = reservations.order_id AND movements.reference IS NOT NULL
                      AND movements.product_id = reservation_lines.product_id
                      AND movements.location = reservation_lines.location), 0)::int AS left
  FROM reservations JOIN reservation_lines ON reservation_lines.reservation_id = reservations.id
 WHERE reservations.order_id = ANY($1::uuid[]) AND reservations.state = 'FULFILLED';

-- name: take_back
-- Units come back to where they were sold from; the rows of stock are locked already.
WITH shares AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::int[])
        AS given (refund_id, order_id, product_id, location, quantity)
), moved AS (
    INSERT INTO movements (id, product_id, location, kind, on_hand_delta, held_delta, order_id, actor, reference)
    SELECT uuid_v7(), product_id, location, 'RETURN', quantity, 0, order_id, 'refund', refund_id FROM shares
)
UPDATE stock SET on_hand = on_hand + back.quantity, updated_at = now()
  FROM (SELECT product_id, location, sum(quantity) AS quantity FROM shares GROUP BY product_id, location) AS back
 WHERE stock.product_id = back.product_id AND stock.location = back.location
RETURNING stock.product_id, stock.location, stock.on_hand, stock.held, stock.minimum_stock, back.quantity;
