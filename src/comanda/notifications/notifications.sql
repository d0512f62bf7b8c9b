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
    ON CONFLICT (order_id, kind, channel, occasion) DO NOTHING
RETURNING id, order_id, (SELECT correlation_id FROM orders WHERE orders.id = notifications.order_id) AS correlation_id,
          occasion;

-- name: store_shipped
-- One message for each parcel and channel: what is in it, and how to follow it.
INSERT INTO notifications (id, order_id, kind, channel, recipient, language, occasion, variables)
SELECT uuid_v7(), orders.id, 'order_shipped', ways.channel, ways.recipient, accounts.language, shipments.id,
       jsonb_build_object('order_id', orders.id, 'first_name', accounts.first_name, 'currency', orders.currency,
                          'total_amount', content.amount, 'lines', content.lines, 'carrier', shipments.carrier,
                          'tracking_number', shipments.tracking_number)
  FROM shipments
  JOIN orders ON orders.id = shipments.order_id
  JOIN accounts ON accounts.id = orders.customer_id
 CROSS JOIN LATERAL (SELECT sum(shipment_lines.quantity * unit_price) AS amount,
                            jsonb_agg(jsonb_build_object('name', product_name, 'quantity', shipment_lines.quantity,
                                      'unit_price', unit_price, 'total', shipment_lines.quantity * unit_price)
                                      ORDER BY position) AS lines
                       FROM shipment_lines
                       JOIN order_lines ON order_lines.order_id = shipments.order_id
                                       AND order_lines.product_id = shipment_lines.product_id
                      WHERE shipment_lines.shipment_id = shipments.id) AS content
 CROSS JOIN LATERAL (SELECT 'email' AS channel, accounts.email AS recipient
                     UNION ALL
                     SELECT 'sms', accounts.phone_number WHERE accounts.phone_number IS NOT NULL) AS ways
 WHERE shipments.id = ANY($1::uuid[])
 ORDER BY shipments.id, ways.channel
    ON CONFLICT (order_id, kind, channel, occasion) DO NOTHING
RETURNING id, order_id, (SELECT correlation_id FROM orders WHERE orders.id = notifications.order_id) AS correlation_id,
          occasion;

-- name: store_refunded
-- One message for each refund that succeeded and channel: how much, and for what.
INSERT INTO notifications (id, order_id, kind, channel, recipient, language, occasion, variables)
SELECT uuid_v7(), orders.id, 'order_refund', ways.channel, ways.recipient, accounts.language, refunds.id,
       jsonb_build_object('order_id', orders.id, 'first_name', accounts.first_name, 'currency', orders.currency,
                          'total_amount', refunds.amount, 'lines', content.lines)
  FROM refunds
  JOIN orders ON orders.id = refunds.order_id
  JOIN accounts ON accounts.id = orders.customer_id
 CROSS JOIN LATERAL (SELECT coalesce(jsonb_agg(jsonb_build_object(
                                'name', product_name, 'quantity', refund_lines.quantity, 'unit_price', unit_price,
                                'total', refund_lines.quantity * unit_price) ORDER BY position), '[]') AS lines
                       FROM refund_lines
                       JOIN order_lines ON order_lines.order_id = refunds.order_id
                                       AND order_lines.product_id = refund_lines.product_id
                      WHERE refund_lines.refund_id = refunds.id) AS content
 CROSS JOIN LATERAL (SELECT 'email' AS channel, accounts.email AS recipient
                     UNION ALL
                     SELECT 'sms', accounts.phone_number WHERE accounts.phone_number IS NOT NULL) AS ways
 WHERE refunds.id = ANY($1::uuid[]) AND refunds.state = 'SUCCEEDED'
 ORDER BY refunds.id, ways.channel
    ON CONFLICT (order_id, kind, channel, occasion) DO NOTHING
RETURNING id, order_id, (SELECT correlation_id FROM orders WHERE orders.id = notifications.order_id) AS correlation_id,
          occasion;

-- name: store_account
-- By e-mail alone: who can read that mailbox is whom the token is for. The token itself is not stored.
INSERT INTO notifications (id, order_id, kind, channel, recipient, language, occasion, variables)
SELECT uuid_v7(), NULL, $3, 'email', accounts.email, accounts.language, given.token_id,
       jsonb_build_object('first_name', accounts.first_name)
  FROM unnest($1::uuid[], $2::uuid[]) AS given (account_id, token_id)
  JOIN accounts ON accounts.id = given.account_id
 ORDER BY accounts.id
RETURNING id, occasion;

-- name: pending
SELECT id, order_id, occasion, kind, channel, recipient, language, variables::text AS variables FROM notifications
 WHERE id = ANY($1::uuid[]) AND state IN ('PENDING', 'FAILED');

-- name: settle
-- One that was retracted while its call was out stays so, and is not tried again; if it went out all the same, it was
-- sent.
UPDATE notifications SET state = given.state, provider_id = given.provider_id, error = given.error,
       sent_at = CASE WHEN given.state = 'SENT' THEN now() END
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS given (id, state, provider_id, error)
 WHERE notifications.id = given.id AND (notifications.state <> 'RETRACTED' OR given.state = 'SENT');

-- name: skip
-- What counts as done by hand was recorded by nobody. The provider's id is its own, and nobody knows it.
UPDATE notifications SET state = 'SENT', error = NULL, sent_at = now()
 WHERE id = ANY($1::uuid[]) AND state IN ('PENDING', 'FAILED');

-- name: retract
-- Messages that have not gone out yet, those among them that were given up on: they would be sent round again. Those
-- that have are followed by the message that the order was cancelled.
UPDATE notifications SET state = 'RETRACTED'
 WHERE order_id = ANY($1::uuid[]) AND kind = 'order_confirmation' AND state IN ('PENDING', 'FAILED');
