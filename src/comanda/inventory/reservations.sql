-- Reservations as staff sees and makes them. See migrations/0002_catalog_and_inventory.sql.

-- name: known
-- Those of these products that there are.
SELECT id FROM products WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL;

-- name: end_named
-- From ACTIVE to another state, once, as `stock.sql` does it for orders. What an order holds only its process sells: sold by
-- hand before it is paid, it would be gone when the order is undone.
UPDATE reservations SET state = $3, ended_at = coalesce(ended_at, now())
 WHERE id IN (SELECT id FROM reservations WHERE id = ANY($1::uuid[]) AND state = $2 AND ($3 <> 'FULFILLED' OR order_id = id)
               ORDER BY id FOR UPDATE)
   AND state = $2
RETURNING id, order_id;

-- name: find
SELECT reservations.id, nullif(order_id, reservations.id) AS order_id, state, expires_at, created_at, ended_at
  FROM reservations WHERE id = ANY($1::uuid[]);

-- name: lines
SELECT reservation_id, product_id, location, quantity FROM reservation_lines
 WHERE reservation_id = ANY($1::uuid[]) ORDER BY reservation_id, product_id, location;

-- name: movements
-- The ledger, newest first. $6: smaller ids only; an order's own when it is asked for.
SELECT id, product_id, location, kind, on_hand_delta, held_delta, order_id, actor, reason, reference, at
  FROM movements
 WHERE ($1::uuid IS NULL OR product_id = $1) AND ($2::text IS NULL OR location = $2)
   AND ($3::text[] IS NULL OR kind = ANY($3)) AND ($4::uuid IS NULL OR order_id = $4)
   AND id < $5
 ORDER BY movements.id DESC LIMIT $6;
