-- Our side of a reconciliation. Each statement looks at a bounded number of rows, by the index on the order.

-- name: paid
SELECT id, order_id, state, currency, captured, refunded FROM payments
 WHERE order_id >= $1 AND order_id < $2 ORDER BY order_id LIMIT $3;

-- name: newest
SELECT order_id FROM payments
 WHERE order_id >= $1 AND order_id < $2 ORDER BY order_id DESC LIMIT $3;

-- name: again
SELECT id, order_id, key, state, amount, currency, captured, refunded FROM payments WHERE order_id = ANY($1::uuid[]);

-- name: told
-- Of these orders, and of their refunds, the sagas that have not ended: their money may be on its way. One that is stuck is not.
SELECT order_id, CASE WHEN bool_or(state = 'COMPENSATION_FAILED') THEN 'stuck' ELSE 'under way' END AS state
  FROM (SELECT subject AS order_id, state FROM sagas
         WHERE subject = ANY($1::uuid[]) AND kind = 'order' AND ended_at IS NULL
        UNION ALL
        SELECT refunds.order_id, sagas.state FROM refunds JOIN sagas ON sagas.subject = refunds.id AND sagas.kind = 'refund'
         WHERE refunds.order_id = ANY($1::uuid[]) AND sagas.ended_at IS NULL) AS open
 GROUP BY order_id;

-- name: given_back
SELECT refunds.order_id, refunds.state, refunds.amount, sagas.id AS saga_id
  FROM refunds LEFT JOIN sagas ON sagas.subject = refunds.id AND sagas.kind = 'refund'
 WHERE refunds.order_id = ANY($1::uuid[]);
