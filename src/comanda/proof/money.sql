-- What the orders are worth, to be compared with the gateway's ledger.

-- name: owed
-- Orders in the order of their ids, page by page. (A page is 20,000 rows: as text, an id is cheaper to compare.)
-- What refunds have given back is not owed any more; what they may be giving back right now is open.
WITH page AS (
    SELECT id, state, total_amount, currency FROM orders WHERE id >= $1::uuid ORDER BY orders.id LIMIT $2
), back AS (
    SELECT order_id, coalesce(sum(amount) FILTER (WHERE state = 'SUCCEEDED'), 0)::bigint AS refunded,
           coalesce(sum(amount) FILTER (WHERE state = 'PENDING'), 0)::bigint AS refunding
      FROM refunds WHERE order_id IN (SELECT id FROM page) GROUP BY order_id
)
SELECT page.id::text AS order_id, state, total_amount, currency, coalesce(refunded, 0) AS refunded,
       coalesce(refunding, 0) AS refunding
  FROM page LEFT JOIN back ON back.order_id = page.id
 ORDER BY page.id;

-- name: turned
-- Of these orders, those that are being undone right now: confirmed ones that are cancelled are neither kept nor given
-- back yet.
SELECT subject::text AS order_id FROM sagas
 WHERE subject = ANY($1::uuid[]) AND kind = 'order' AND state IN ('COMPENSATING', 'COMPENSATION_FAILED');
