-- What the orders are worth, to be compared with the gateway's ledger.

-- name: owed
-- Orders in the order of their ids, page by page. (A page is 20,000 rows: as text, an id is cheaper to compare.)
SELECT id::text AS order_id, state, total_amount, currency FROM orders WHERE id >= $1::uuid ORDER BY orders.id LIMIT $2;
