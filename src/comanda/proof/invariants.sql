-- What must hold in any state that was committed. Each statement finds what breaks a rule: none, or up to 20 rows, each
-- with the count of all (`count`). Where orders are judged, $1 is the smallest id that is looked at: ids sort by time.

-- name: has_schema
SELECT to_regclass('outbox_cursors') IS NOT NULL AND to_regclass('notifications') IS NOT NULL;

-- name: make_room
-- For this transaction: sums over many orders in memory, not in files; each statement planned for what it is asked.
SELECT set_config('work_mem', '128MB', true), set_config('hash_mem_multiplier', '4', true),
       set_config('plan_cache_mode', 'force_custom_plan', true), set_config('jit', 'off', true);

-- name: counted
-- What was looked at.
SELECT count(*) AS orders, count(*) FILTER (WHERE ended_at IS NULL) AS under_way FROM orders WHERE id >= $1::uuid;

-- name: lost_orders
-- A 202 was sent, or its event stored, and there is no such order of that customer. $2: events of these orders have no
-- smaller id; $3: nor are their keys older.
WITH lost AS (
    SELECT keys.subject AS order_id, 'idempotency key' AS known_from
      FROM idempotency_keys AS keys
      LEFT JOIN orders ON orders.id = keys.subject AND orders.customer_id = keys.customer_id
     WHERE keys.kind = 'order' AND keys.subject >= $1::uuid AND keys.created_at >= $3::timestamptz AND orders.id IS NULL
    UNION ALL
    SELECT outbox.aggregate_id, outbox.type
      FROM outbox LEFT JOIN orders ON orders.id = outbox.aggregate_id
     WHERE outbox.id >= $2::uuid AND outbox.aggregate_type = 'order' AND outbox.type = 'OrderCreated'
       AND outbox.aggregate_id >= $1::uuid AND orders.id IS NULL
)
SELECT order_id, known_from, count(*) OVER () AS count FROM lost ORDER BY order_id LIMIT 20;

-- name: wrong_totals
SELECT orders.id AS order_id, orders.total_amount, lines.amount::bigint AS sum_of_lines, count(*) OVER () AS count
  FROM orders
  LEFT JOIN (SELECT order_id, sum(quantity * unit_price) AS amount FROM order_lines
              WHERE order_id >= $1::uuid GROUP BY order_id) AS lines ON lines.order_id = orders.id
 WHERE orders.id >= $1::uuid AND orders.total_amount IS DISTINCT FROM lines.amount
 ORDER BY orders.id LIMIT 20;

-- name: halted_orders
-- An order under way needs a saga that stands at a step (a stuck one is found by `stuck_sagas`); an order that has
-- ended, one that has ended the same way; or, where a confirmed one is being cancelled, one that is undoing it.
SELECT orders.id AS order_id, orders.state, sagas.id AS saga_id, sagas.state AS saga_state, sagas.step,
       count(*) OVER () AS count
  FROM orders LEFT JOIN sagas ON sagas.id = orders.saga_id AND sagas.subject = orders.id
 WHERE (orders.id >= $1::uuid OR orders.ended_at IS NULL)
   AND NOT coalesce(CASE WHEN orders.ended_at IS NULL
                         THEN sagas.state IN ('RUNNING', 'COMPENSATING', 'COMPENSATION_FAILED')
                         WHEN orders.state = 'CANCELLED' THEN sagas.state = 'COMPENSATED'
                         WHEN orders.state = 'CONFIRMED'
                         THEN sagas.state IN ('COMPLETED', 'COMPENSATING', 'COMPENSATION_FAILED')
                         ELSE sagas.state = 'COMPLETED' END, false)
 ORDER BY orders.id LIMIT 20;

-- name: stuck_sagas
SELECT id AS saga_id, kind, subject, step, direction, coalesce(note, reason) AS why, updated_at,
       count(*) OVER () AS count
  FROM sagas WHERE state = 'COMPENSATION_FAILED' ORDER BY id LIMIT 20;

-- name: overdue_sagas
-- Due for longer than $1, and nobody has taken it. What stands in a queue that was paused by hand is not meant.
WITH due AS (
    SELECT * FROM sagas
     WHERE waits_until IS NULL AND state IN ('RUNNING', 'COMPENSATING')
    UNION ALL
    SELECT * FROM sagas
     WHERE waits_until < now() - $1::interval AND state IN ('RUNNING', 'COMPENSATING')
)
SELECT due.id AS saga_id, kind, subject, queue, step, direction, attempt, due.updated_at, count(*) OVER () AS count
  FROM due LEFT JOIN queues ON queues.name = due.queue
 WHERE due.updated_at < now() - $1::interval AND (lease_until IS NULL OR lease_until < now() - $1::interval)
   AND queues.is_paused IS NOT TRUE
 ORDER BY due.updated_at, due.id LIMIT 20;

-- name: drifted_stock
-- Stock that is not the sum of its movements.
SELECT product_id, location, stock.on_hand, booked.on_hand::bigint AS movements_on_hand, stock.held,
       booked.held::bigint AS movements_held, count(*) OVER () AS count
  FROM stock
  FULL JOIN (SELECT product_id, location, sum(on_hand_delta) AS on_hand, sum(held_delta) AS held
               FROM movements GROUP BY product_id, location) AS booked USING (product_id, location)
 WHERE coalesce(stock.on_hand, 0) <> coalesce(booked.on_hand, 0) OR coalesce(stock.held, 0) <> coalesce(booked.held, 0)
 ORDER BY product_id, location LIMIT 20;

-- name: drifted_holds
-- Stock that is held by something else than the active reservations.
SELECT product_id, location, stock.held, reserved.quantity::bigint AS active_reservations, count(*) OVER () AS count
  FROM stock
  FULL JOIN (SELECT product_id, location, sum(quantity) AS quantity
               FROM reservations JOIN reservation_lines ON reservation_id = reservations.id
              WHERE state = 'ACTIVE' GROUP BY product_id, location) AS reserved USING (product_id, location)
 WHERE coalesce(stock.held, 0) <> coalesce(reserved.quantity, 0)
 ORDER BY product_id, location LIMIT 20;

-- name: oversold
SELECT product_id, location, on_hand, held, count(*) OVER () AS count
  FROM stock WHERE on_hand < 0 OR held < 0 OR held > on_hand
 ORDER BY product_id, location LIMIT 20;

-- name: missing_guards
-- Constraints and unique indexes that carry an invariant, and are not there or not valid.
SELECT guards.relation, guards.name, count(*) OVER () AS count
  FROM unnest($1::text[], $2::text[]) AS guards (relation, name)
 WHERE NOT EXISTS (SELECT 1 FROM pg_constraint
                    WHERE conrelid = to_regclass(guards.relation) AND conname = guards.name AND convalidated)
   AND NOT EXISTS (SELECT 1 FROM pg_index
                    WHERE indrelid = to_regclass(guards.relation) AND indexrelid = to_regclass(guards.name)
                      AND indisunique AND indisvalid)
 ORDER BY guards.relation, guards.name LIMIT 20;

-- name: misbooked_orders
-- What an order's movements say that it holds and has bought is what its reservations say. Millions of lines are summed
-- by order first, each weighted by its place so that two wrongs don't make a right; then the suspects line by line.
-- $2: reservations of these orders have no smaller id.
WITH told AS NOT MATERIALIZED (
    SELECT order_id, product_id, location, held_delta AS booked_held, -on_hand_delta AS booked_sold,
           0 AS reserved_held, 0 AS reserved_sold
      FROM movements WHERE order_id >= $1::uuid AND reference IS NULL -- what came back later: `misbooked_returns`
    UNION ALL
    SELECT order_id, product_id, location, 0, 0, CASE state WHEN 'ACTIVE' THEN quantity ELSE 0 END,
           CASE state WHEN 'FULFILLED' THEN quantity ELSE 0 END
      FROM reservations JOIN reservation_lines ON reservation_id = reservations.id
     WHERE order_id >= $1::uuid AND reservation_id >= $2::uuid AND state IN ('ACTIVE', 'FULFILLED')
), suspects AS MATERIALIZED (
    SELECT order_id FROM told GROUP BY order_id
    HAVING sum(((booked_held - reserved_held) * (uuid_hash(product_id) # hashtext(location)))::float8) <> 0
        OR sum(((booked_sold - reserved_sold) * (uuid_hash(product_id) # hashtext(location)))::float8) <> 0
)
SELECT order_id, product_id, location, sum(booked_held)::bigint AS movements_held, sum(reserved_held) AS reserved_held,
       sum(booked_sold)::bigint AS movements_sold, sum(reserved_sold) AS reserved_sold, count(*) OVER () AS count
  FROM told JOIN suspects USING (order_id) GROUP BY order_id, product_id, location
HAVING sum(booked_held) <> sum(reserved_held) OR sum(booked_sold) <> sum(reserved_sold)
 ORDER BY order_id, product_id, location LIMIT 20;

-- name: misbooked_returns
-- Refunds that put units back into the stock and have ended well have booked them, as far as they were sold from it; no
-- other refund has booked any.
WITH booked AS (
    SELECT order_id, reference, product_id, sum(on_hand_delta) AS quantity FROM movements
     WHERE order_id >= $1::uuid AND reference IS NOT NULL GROUP BY order_id, reference, product_id
), due AS (
    SELECT refunds.id, refunds.order_id, refund_lines.product_id, refund_lines.quantity,
           sagas.state = 'COMPLETED' AS is_over,
           EXISTS (SELECT 1 FROM reservations JOIN reservation_lines ON reservation_id = reservations.id
                    WHERE reservations.order_id = refunds.order_id AND reservations.state = 'FULFILLED'
                      AND reservation_lines.product_id = refund_lines.product_id) AS is_stocked
      FROM refunds JOIN refund_lines ON refund_id = refunds.id
      LEFT JOIN sagas ON sagas.subject = refunds.id AND sagas.kind = 'refund'
     WHERE refunds.order_id >= $1::uuid AND refunds.is_restocked
)
SELECT coalesce(due.order_id, booked.order_id) AS order_id, coalesce(due.id, booked.reference) AS refund_id,
       coalesce(due.product_id, booked.product_id) AS product_id,
       due.quantity AS refunded, booked.quantity::bigint AS booked, count(*) OVER () AS count
  FROM due FULL JOIN booked ON booked.reference = due.id AND booked.product_id = due.product_id
 WHERE NOT coalesce(CASE WHEN booked.quantity IS NULL THEN NOT due.is_over OR NOT due.is_stocked
                         ELSE booked.quantity = due.quantity END, false)
 ORDER BY 1, 2, 3 LIMIT 20;

-- name: halted_refunds
-- A refund that is asked for has a saga that gives it back; one that succeeded has one that goes on, or did, or was called
-- off by an operator after the money was back.
SELECT refunds.id AS refund_id, refunds.order_id, refunds.state, sagas.state AS saga_state, count(*) OVER () AS count
  FROM refunds LEFT JOIN sagas ON sagas.subject = refunds.id AND sagas.kind = 'refund'
 WHERE refunds.order_id >= $1::uuid
   AND NOT coalesce(CASE refunds.state WHEN 'PENDING' THEN sagas.id IS NOT NULL AND sagas.ended_at IS NULL
                                       WHEN 'FAILED' THEN sagas.state = 'COMPENSATED'
                                       ELSE sagas.id IS NOT NULL END, false)
 ORDER BY refunds.id LIMIT 20;

-- name: overshipped
-- No more of a line leaves the house than was ordered, less what was put back before.
WITH sent AS (
    SELECT order_id, product_id, sum(quantity) AS quantity FROM shipments JOIN shipment_lines ON shipment_id = shipments.id
     WHERE order_id >= $1::uuid GROUP BY order_id, product_id
), back AS (
    SELECT order_id, product_id, sum(quantity) AS refunded,
           coalesce(sum(quantity) FILTER (WHERE kind = 'REFUND' AND is_restocked), 0) AS withdrawn,
           coalesce(sum(quantity) FILTER (WHERE kind = 'RETURN'), 0) AS returned
      FROM refunds JOIN refund_lines ON refund_id = refunds.id
     WHERE order_id >= $1::uuid AND state <> 'FAILED' GROUP BY order_id, product_id
)
SELECT order_id, product_id, order_lines.quantity AS ordered, sent.quantity::bigint AS shipped, back.refunded::bigint,
       back.withdrawn::bigint, back.returned::bigint, count(*) OVER () AS count
  FROM sent FULL JOIN back USING (order_id, product_id) LEFT JOIN order_lines USING (order_id, product_id)
 WHERE NOT coalesce(coalesce(sent.quantity, 0) + coalesce(back.withdrawn, 0) <= order_lines.quantity
                    AND coalesce(back.refunded, 0) <= order_lines.quantity
                    AND coalesce(back.returned, 0) <= coalesce(sent.quantity, 0), false)
 ORDER BY order_id, product_id LIMIT 20;

-- name: holding_cancelled
SELECT orders.id AS order_id, reservations.id AS reservation_id, reservations.state, count(*) OVER () AS count
  FROM orders JOIN reservations ON reservations.order_id = orders.id AND reservations.state IN ('ACTIVE', 'FULFILLED')
 WHERE orders.id >= $1::uuid AND orders.state = 'CANCELLED'
 ORDER BY orders.id LIMIT 20;

-- name: unsold_lines
-- Lines of confirmed orders that were not sold from the stock. A product without stock-keeping needs none; one that
-- was changed since may have been without it when it was ordered. $2: their reservations have no smaller id.
WITH sold AS (
    SELECT order_id, product_id, sum(quantity) AS quantity
      FROM reservations JOIN reservation_lines ON reservation_id = reservations.id
     WHERE order_id >= $1::uuid AND reservation_id >= $2::uuid AND state = 'FULFILLED' GROUP BY order_id, product_id
), wanted AS (
    SELECT orders.id AS order_id, order_lines.product_id, order_lines.quantity,
           products.track_inventory AND products.updated_at <= orders.created_at AS is_tracked
      FROM orders JOIN order_lines ON order_lines.order_id = orders.id
      LEFT JOIN products ON products.id = order_lines.product_id
     WHERE orders.id >= $1::uuid AND order_lines.order_id >= $1::uuid
       AND orders.state IN ('CONFIRMED', 'SHIPPED', 'DELIVERED') AND orders.id NOT IN (SELECT order_id FROM orders_being_undone)
)
SELECT wanted.order_id, wanted.product_id, wanted.quantity AS ordered, sold.quantity::bigint AS sold,
       (SELECT state FROM reservations WHERE reservations.order_id = wanted.order_id ORDER BY id DESC LIMIT 1)
           AS reservation, count(*) OVER () AS count
  FROM wanted LEFT JOIN sold USING (order_id, product_id)
 WHERE coalesce(sold.quantity <> wanted.quantity, wanted.is_tracked)
 ORDER BY wanted.order_id, wanted.product_id LIMIT 20;

-- name: unpaid_orders
-- The payment as we know it: captured whole for a confirmed order, less what refunds have given back; none or all of it
-- given back for one that was undone; all of it for one that was refunded.
WITH back AS (
    SELECT order_id, coalesce(sum(amount) FILTER (WHERE state = 'SUCCEEDED'), 0) AS refunded,
           coalesce(sum(amount) FILTER (WHERE state = 'PENDING'), 0) AS refunding
      FROM refunds WHERE order_id >= $1::uuid GROUP BY order_id
)
SELECT orders.id AS order_id, orders.state, orders.total_amount, payments.state AS payment_state, payments.captured,
       payments.refunded, (back.refunded + back.refunding)::bigint AS refunds, payments.key, count(*) OVER () AS count
  FROM orders LEFT JOIN payments ON payments.order_id = orders.id AND payments.order_id >= $1::uuid
  LEFT JOIN back ON back.order_id = orders.id
 WHERE orders.id >= $1::uuid AND orders.id NOT IN (SELECT order_id FROM orders_being_undone)
   AND NOT CASE WHEN orders.state IN ('CONFIRMED', 'SHIPPED', 'DELIVERED', 'REFUNDED')
                THEN coalesce(payments.captured = orders.total_amount AND payments.currency = orders.currency
                              AND payments.refunded = coalesce(back.refunded, 0)
                              AND payments.refunding = coalesce(back.refunding, 0)
                              AND payments.state = CASE WHEN payments.refunded = 0 THEN 'SUCCEEDED'
                                                        WHEN payments.refunded = payments.captured THEN 'REFUNDED'
                                                        ELSE 'PARTIALLY_REFUNDED' END
                              AND (orders.state <> 'REFUNDED' OR payments.refunded = payments.captured), false)
                WHEN orders.ended_at IS NOT NULL
                THEN coalesce(payments.captured = payments.refunded
                              AND (payments.state IN ('FAILED', 'REFUNDED') OR payments.amount = 0), true)
                ELSE coalesce(payments.amount = orders.total_amount AND payments.currency = orders.currency, true) END
 ORDER BY orders.id LIMIT 20;

-- name: untold_orders
-- By e-mail, which every customer has: one confirmation of a confirmed order, one bad news of a cancelled one, none
-- while it is under way. (More than one of a kind and channel is ruled out by a unique constraint.) A confirmed one that is
-- being undone has taken its confirmation back, if that could still be done.
WITH told AS (
    SELECT order_id, count(*) FILTER (WHERE kind = 'order_confirmation' AND state <> 'RETRACTED') AS confirmations,
           count(*) FILTER (WHERE kind IN ('payment_failure', 'order_cancellation')) AS cancellations
      FROM notifications WHERE order_id >= $1::uuid AND channel = 'email' GROUP BY order_id
)
SELECT orders.id AS order_id, orders.state, coalesce(confirmations, 0) AS confirmations,
       coalesce(cancellations, 0) AS cancellations, count(*) OVER () AS count
  FROM orders LEFT JOIN told ON told.order_id = orders.id
 WHERE orders.id >= $1::uuid
   AND NOT CASE WHEN orders.state = 'CANCELLED' THEN coalesce(cancellations, 0) = 1
                WHEN orders.ended_at IS NULL THEN coalesce(cancellations, 0) = 0
                WHEN orders.id IN (SELECT order_id FROM orders_being_undone) THEN coalesce(cancellations, 0) = 0
                ELSE coalesce(confirmations, 0) = 1 AND cancellations = 0 END
 ORDER BY orders.id LIMIT 20;

-- name: halted_messages
-- Messages that nobody delivers, and delivered ones that are not marked as sent.
SELECT notifications.id AS notification_id, order_id, notifications.kind, channel, notifications.state,
       sagas.id AS saga_id, sagas.state AS saga_state, count(*) OVER () AS count
  FROM notifications LEFT JOIN sagas ON sagas.subject = notifications.id AND sagas.kind = 'notification'
 WHERE order_id >= $1::uuid
   AND (sagas.id IS NULL OR (sagas.state = 'COMPLETED') <> (notifications.state = 'SENT'))
   AND NOT (notifications.state = 'RETRACTED' AND sagas.id IS NOT NULL)
 ORDER BY order_id, notifications.id LIMIT 20;

-- name: miscounted_mails
-- The mock providers' mailbox: one message for each that is marked as sent, and no more than were stored.
WITH told AS (
    SELECT order_id, channel, count(*) AS stored,
           count(*) FILTER (WHERE state = 'SENT' AND provider_id LIKE 'mock-%') AS sent
      FROM notifications WHERE order_id >= $1::uuid GROUP BY order_id, channel
), mails AS (
    SELECT order_id, channel, count(*) AS mails FROM mailbox WHERE order_id >= $1::uuid GROUP BY order_id, channel
)
SELECT order_id, channel, coalesce(stored, 0) AS stored, coalesce(sent, 0) AS sent, coalesce(mails, 0) AS mails,
       count(*) OVER () AS count
  FROM told FULL JOIN mails USING (order_id, channel)
 WHERE coalesce(mails, 0) NOT BETWEEN coalesce(sent, 0) AND coalesce(stored, 0)
 ORDER BY order_id, channel LIMIT 20;

-- name: miscounted_events
-- Orders are judged as far back as there are partitions of the outbox. $2: events of these orders have no smaller id.
WITH kept AS (
    SELECT coalesce(uuid_floor(min(to_date(right(child.relname, 7), 'IYYY"w"IW'))::timestamp AT TIME ZONE 'UTC'),
                    '00000000-0000-0000-0000-000000000000') AS floor
      FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
     WHERE inhparent = 'outbox'::regclass AND child.relname ~ '_\d{4}w\d\d$'
), told AS (
    SELECT aggregate_id, count(*) FILTER (WHERE type = 'OrderCreated') AS created,
           count(*) FILTER (WHERE type = 'OrderConfirmed') AS confirmed,
           count(*) FILTER (WHERE type = 'OrderCancelled') AS cancelled
      FROM outbox
     WHERE id >= $2::uuid AND aggregate_id >= $1::uuid AND aggregate_type = 'order'
       AND type IN ('OrderCreated', 'OrderConfirmed', 'OrderCancelled')
     GROUP BY aggregate_id
)
SELECT orders.id AS order_id, orders.state, coalesce(created, 0) AS created, coalesce(confirmed, 0) AS confirmed,
       coalesce(cancelled, 0) AS cancelled, count(*) OVER () AS count
  FROM orders CROSS JOIN kept LEFT JOIN told ON told.aggregate_id = orders.id
 WHERE orders.id >= $1::uuid AND orders.id >= kept.floor
   AND NOT coalesce(created = 1 AND CASE WHEN orders.ended_at IS NULL THEN confirmed = 0 AND cancelled = 0
                                         WHEN orders.state = 'CANCELLED' THEN confirmed <= 1 AND cancelled = 1
                                         ELSE confirmed = 1 AND cancelled = 0 END, false)
 ORDER BY orders.id LIMIT 20;

-- name: unmoved_events
-- Events older than $1 that a sink has not been given.
SELECT cursor.sink, outbox.id AS event_id, outbox.type, outbox.at, count(*) OVER () AS count
  FROM outbox_cursors AS cursor
  JOIN outbox ON (outbox.xid, outbox.id) > (cursor.xid, cursor.id)
 WHERE outbox.at < now() - $1::interval
 ORDER BY outbox.xid, outbox.id LIMIT 20;

-- name: histories
-- How many orders of a state have taken the same moves. There are few different ones, however many orders.
WITH moves AS (
    SELECT order_id, array_agg(coalesce(from_state, '') || '>' || to_state ORDER BY to_state, from_state) AS moves
      FROM order_moves WHERE order_id >= $1::uuid GROUP BY order_id
)
SELECT orders.state, coalesce(moves.moves, '{}') AS moves, count(*) AS count
  FROM (SELECT id, state FROM orders WHERE id >= $1::uuid) AS orders FULL JOIN moves ON moves.order_id = orders.id
 GROUP BY orders.state, moves.moves;

-- name: with_history
-- Up to $4 of those orders.
WITH moves AS (
    SELECT order_id, array_agg(coalesce(from_state, '') || '>' || to_state ORDER BY to_state, from_state) AS moves
      FROM order_moves WHERE order_id >= $1::uuid GROUP BY order_id
)
SELECT coalesce(orders.id, moves.order_id) AS order_id
  FROM (SELECT id, state FROM orders WHERE id >= $1::uuid) AS orders FULL JOIN moves ON moves.order_id = orders.id
 WHERE orders.state IS NOT DISTINCT FROM $2 AND coalesce(moves.moves, '{}') = $3::text[]
 ORDER BY 1 LIMIT $4;
