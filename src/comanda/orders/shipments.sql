-- Parcels. See migrations/0012_after_the_order.sql.

-- name: send
WITH sent AS (
    INSERT INTO shipments (id, order_id, carrier, tracking_number, actor)
    SELECT id, order_id, carrier, tracking_number, actor
      FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::uuid[])
           AS given (id, order_id, carrier, tracking_number, actor)
    RETURNING id, order_id, carrier, tracking_number, shipped_at, delivered_at
), lines AS (
    INSERT INTO shipment_lines (shipment_id, product_id, quantity)
    SELECT shipment_id, product_id, quantity FROM unnest($6::uuid[], $7::uuid[], $8::int[])
        AS given (shipment_id, product_id, quantity)
)
SELECT * FROM sent;

-- name: deliver
-- Parcels that have arrived; of these, those that had not before.
UPDATE shipments SET delivered_at = now()
 WHERE id IN (SELECT id FROM shipments WHERE id = ANY($1::uuid[]) AND delivered_at IS NULL ORDER BY id FOR UPDATE)
RETURNING id, order_id;

-- name: of_orders
SELECT id, order_id, carrier, tracking_number, shipped_at, delivered_at FROM shipments
 WHERE order_id = ANY($1::uuid[]) ORDER BY order_id, id;

-- name: lines
SELECT shipment_id, product_id, quantity FROM shipment_lines
 WHERE shipment_id = ANY($1::uuid[]) ORDER BY shipment_id, product_id;
