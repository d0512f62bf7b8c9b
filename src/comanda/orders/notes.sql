-- What people write beside an order. See migrations/0012_after_the_order.sql.

-- name: write
INSERT INTO order_notes (id, order_id, text, is_public, actor)
SELECT id, order_id, text, is_public, actor
  FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bool[], $5::uuid[]) AS given (id, order_id, text, is_public, actor)
RETURNING id, order_id, text, is_public, actor, created_at;

-- name: of_orders
SELECT id, order_id, text, is_public, actor, created_at FROM order_notes
 WHERE order_id = ANY($1::uuid[]) AND (is_public OR $2) ORDER BY order_id, id;
