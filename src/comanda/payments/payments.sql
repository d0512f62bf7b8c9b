-- Payments: the intent before the call, the result after it. See migrations/0006_payments.sql.

-- name: asked
-- What is to be charged for each order.
SELECT id, total_amount, currency, payment_method FROM orders WHERE id = ANY($1::uuid[]);

-- name: intend
-- The intent, before the gateway is called; of a repeat it is there already.
INSERT INTO payments (id, order_id, key, state, amount, currency, method)
SELECT id, order_id, key, state, amount, currency, method
  FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[])
       AS given (id, order_id, key, state, amount, currency, method)
    ON CONFLICT (order_id) DO UPDATE SET state = excluded.state, updated_at = now();

-- name: settle
-- The result. What has been captured is the whole amount, or nothing.
UPDATE payments
   SET state = given.state, updated_at = now(),
       gateway_id = coalesce(given.gateway_id, payments.gateway_id),
       decline_code = coalesce(given.decline_code, payments.decline_code),
       captured = CASE WHEN given.is_captured THEN payments.amount ELSE payments.captured END,
       refunded = CASE WHEN given.is_refunded THEN payments.amount ELSE payments.refunded END
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bool[], $6::bool[])
       AS given (order_id, state, gateway_id, decline_code, is_captured, is_refunded)
 WHERE payments.order_id = given.order_id
RETURNING payments.id, payments.order_id, payments.amount, payments.currency, payments.state;

-- name: intents
-- The payments whose undoing has to be asked of the gateway: an intent was stored, and nobody declined it.
SELECT order_id, key, state, amount FROM payments
 WHERE order_id = ANY($1::uuid[]) AND state IN ('PENDING', 'PROCESSING', 'SUCCEEDED') AND amount > 0;
