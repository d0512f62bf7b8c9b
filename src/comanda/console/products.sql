-- A product's ledger, and who holds it. Each statement looks at a bounded number of rows.

-- name: movements
-- Out of a span of $3 lines of the ledger of stock, older than $2, those of a product.
WITH span AS MATERIALIZED (SELECT * FROM movements WHERE id < $2 ORDER BY id DESC LIMIT $3)
SELECT id, location, kind, on_hand_delta, held_delta, order_id, actor, reason, at
  FROM span WHERE product_id = $1 ORDER BY id DESC LIMIT $4;

-- name: end_of_span
-- Where a span of the ledger ends; none where it reaches the first line.
SELECT id FROM movements WHERE id < $1 ORDER BY id DESC OFFSET $2 - 1 LIMIT 1;

-- name: held_for
-- Orders that hold units of a product, those first whose hold ends first; of 10,000 reservations that are active.
SELECT order_id, sum(quantity)::bigint AS quantity, expires_at
  FROM (SELECT id, order_id, expires_at FROM reservations WHERE state = 'ACTIVE' ORDER BY expires_at LIMIT 10000) AS active
  JOIN reservation_lines ON reservation_id = active.id AND product_id = $1
 GROUP BY order_id, expires_at ORDER BY expires_at LIMIT $2;
