-- Messages to customers: stored with the change that they tell of. See migrations/0007_notifications.sql.

-- name: store
-- One message of a kind for each order and channel: by e-mail, and by SMS to those who left a number.
-- Of an order that was undone, who failed to pay is told so; the others are told that it was cancelled.
INSERT INTO notifications (id, order_id, kind, channel, recipient, language, variables)
SELECT uuid_v7(), orders.id,
       CASE WHEN $3 = 'order_confirmation' THEN $3
            WHEN payments.state = 'FAILED' AND payments.decline_code IS DISTINCT FROM 'VOIDED' THEN 'payment_failure'
            ELSE 'order_cancellation' END,
       ways.channel, ways.recipient, accounts.language,
       jsonb_build_object('order_id', orders.id, 'first_name', accounts.first_name, 'currency', orders.currency,
                          'total_amount', orders.total_amount, 'reason', given.reason, 'lines', lines.lines)
  FROM unnest($1::uuid[], $2::text[]) AS given (order_id, reason)
  JOIN orders ON orders.id = given.order_id
  JOIN accounts ON accounts.id = orders.customer_id
  LEFT JOIN payments ON payments.order_id = orders.id
 CROSS JOIN LATERAL (SELECT jsonb_agg(jsonb_build_object('name', product_name, 'quantity', quantity,
                            'unit_price', unit_price, 'total', quantity * unit_price) ORDER BY position) AS lines
                       FROM order_lines WHERE order_lines.order_id = orders.id) AS lines
 CROSS JOIN LATERAL (SELECT 'email' AS channel, accounts.email AS recipient
                     UNION ALL
                     SELECT 'sms', accounts.phone_number WHERE accounts.phone_number IS NOT NULL) AS ways
 ORDER BY orders.id, ways.channel
    ON CONFLICT (order_id, kind, channel) DO NOTHING
RETURNING id, order_id, (SELECT correlation_id FROM orders WHERE orders.id = notifications.order_id) AS correlation_id;

-- name: pending
SELECT id, order_id, kind, channel, recipient, language, variables::text AS variables FROM notifications
 WHERE id = ANY($1::uuid[]) AND state IN ('PENDING', 'FAILED');

-- name: settle
-- One that was retracted while its call was out stays so, and is not tried again; if it went out all the same, it was
-- sent.
UPDATE notifications SET state = given.state, provider_id = given.provider_id, error = given.error,
       sent_at = CASE WHEN given.state = 'SENT' THEN now() END
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS given (id, state, provider_id, error)
 WHERE notifications.id = given.id AND (notifications.state <> 'RETRACTED' OR given.state = 'SENT');

-- name: retract
-- Messages that have not gone out yet; those that have are followed by the message that the order was cancelled.
UPDATE notifications SET state = 'RETRACTED'
 WHERE order_id = ANY($1::uuid[]) AND kind = 'order_confirmation' AND state = 'PENDING';
