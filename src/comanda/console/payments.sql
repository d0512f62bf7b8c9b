-- Payments as operators look for them. Each statement looks at a bounded number of rows.

-- name: found
-- Out of a span of $2 payments older than $1 those in a state.
WITH span AS MATERIALIZED (SELECT * FROM payments WHERE id < $1 ORDER BY id DESC LIMIT $2)
SELECT id, order_id, key, state, amount, captured, refunded, refunding, currency, method, gateway_id,
       decline_code, created_at, updated_at
  FROM span WHERE $3::text IS NULL OR state = $3 ORDER BY id DESC LIMIT $4;

-- name: end_of_span
-- Where a span of all payments ends; none where it reaches the first one.
SELECT id FROM payments WHERE id < $1 ORDER BY id DESC OFFSET $2 - 1 LIMIT 1;

-- name: named
-- Those that an id is of: their own, their order's, one of their refunds'; or the gateway's id or key.
SELECT id, order_id, key, state, amount, captured, refunded, refunding, currency, method, gateway_id, decline_code,
       created_at, updated_at
  FROM payments WHERE id IN (SELECT id FROM payments WHERE id = $1::uuid OR order_id = $1::uuid
                             UNION ALL SELECT payments.id FROM refunds JOIN payments ON payments.order_id = refunds.order_id
                                        WHERE refunds.id = $1::uuid
                             UNION ALL SELECT id FROM payments WHERE key = $2
                             UNION ALL (SELECT id FROM payments WHERE gateway_id = $2 LIMIT 50))
 ORDER BY id DESC;
