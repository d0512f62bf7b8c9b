-- Events, committed with the change that caused them. See migrations/0005_outbox.sql.

-- name: append
-- The correlation id, where the writer has none at hand, is that of the order it concerns. Wakes the relay at COMMIT.
WITH appended AS (
    INSERT INTO outbox (id, type, aggregate_type, aggregate_id, correlation_id, payload, traceparent)
    SELECT given.id, given.type, given.aggregate_type, given.aggregate_id,
           coalesce(given.correlation_id, (SELECT orders.correlation_id FROM orders WHERE orders.id = given.order_id)),
           given.payload::jsonb, given.traceparent
      FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::uuid[], $7::text[], $8::text[])
           AS given (id, type, aggregate_type, aggregate_id, correlation_id, order_id, payload, traceparent)
     RETURNING 1
)
SELECT pg_notify('comanda_outbox', '') FROM (SELECT count(*) FROM appended) AS one;

-- name: locked_cursor
-- Where a sink stands; another relay that works on it is not waited for.
SELECT xid::text AS xid, id FROM outbox_cursors WHERE sink = $1 FOR UPDATE SKIP LOCKED;

-- name: following
-- What comes after a position, up to the oldest transaction that may still write: nothing can appear before it.
SELECT id, xid::text AS xid, type, version, aggregate_type, aggregate_id, correlation_id, causation_id,
       payload::text AS payload, at, traceparent
  FROM outbox
 WHERE (xid, id) > ($1::text::xid8, $2::uuid) AND xid < pg_snapshot_xmin(pg_current_snapshot())
 ORDER BY outbox.xid, outbox.id LIMIT $3; -- the column: `xid` alone is the text above, where 1000 comes before 999

-- name: advance_cursor
UPDATE outbox_cursors SET xid = $2::text::xid8, id = $3, published = published + $4, updated_at = now()
 WHERE sink = $1;

-- name: skip
-- Nobody wants events: the next that a sink is given comes after all that may still be written. Not at each look.
UPDATE outbox_cursors SET xid = pg_snapshot_xmin(pg_current_snapshot()), id = '00000000-0000-0000-0000-000000000000',
       updated_at = now()
 WHERE sink = $1 AND updated_at < now() - interval '5 s'
   AND NOT EXISTS (SELECT 1 FROM webhook_endpoints WHERE is_active AND deleted_at IS NULL);

-- name: lag
-- Events that a sink has not seen yet (counted up to 10,000), and the age of the oldest in seconds. In order: otherwise who may
-- read whole tables does so, to find that nothing is new.
SELECT count(*) AS behind, coalesce(extract(epoch FROM now() - min(at)), 0)::float AS oldest_seconds
  FROM outbox_cursors AS cursor
 CROSS JOIN LATERAL (SELECT at FROM outbox WHERE (outbox.xid, outbox.id) > (cursor.xid, cursor.id)
                      ORDER BY outbox.xid, outbox.id LIMIT 10000) AS unseen
 WHERE cursor.sink = $1;

-- name: settled_up_to
-- The oldest transaction that may still write: nothing can appear before it any more.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS xid;

-- name: settled_of_orders
-- The events of orders, of their payments and reservations, in the one order that they have for ever: up to the oldest
-- transaction that may still write, as the relay hands them on. $2: none of them has a smaller id. $3: those of earlier
-- transactions are known. That is asked last: the events since then, of all orders, may be most of the table.
WITH about AS (
    SELECT id AS order_id, id FROM unnest($1::uuid[]) AS id
    UNION ALL SELECT order_id, id FROM payments WHERE order_id = ANY($1::uuid[])
    UNION ALL SELECT order_id, id FROM reservations WHERE order_id = ANY($1::uuid[])
), settled AS MATERIALIZED (
    SELECT about.order_id, outbox.id, outbox.xid, type, version, aggregate_type, aggregate_id, correlation_id,
           causation_id, payload, at
      FROM about JOIN outbox ON outbox.aggregate_id = about.id
     WHERE outbox.id >= $2::uuid AND outbox.xid < pg_snapshot_xmin(pg_current_snapshot())
)
SELECT order_id, id, type, version, aggregate_type, aggregate_id, correlation_id, causation_id,
       payload::text AS payload, at
  FROM settled WHERE xid >= $3::text::xid8
 ORDER BY xid, id;

-- name: of_orders
-- The events of orders, and of their payments and reservations. As one array: with OR every partition is read whole.
SELECT id, type, version, aggregate_type, aggregate_id, correlation_id, payload::text AS payload, at FROM outbox
 WHERE aggregate_id = ANY(ARRAY(SELECT unnest($1::uuid[])
                                UNION ALL SELECT id FROM payments WHERE order_id = ANY($1::uuid[])
                                UNION ALL SELECT id FROM reservations WHERE order_id = ANY($1::uuid[])))
 ORDER BY at, id;
