-- One job: a saga, what it was given, what came of it.

-- name: job
SELECT id, kind, version, subject, state, step, direction, queue, priority, reached, attempt, since, waits_until, lease_until,
       worker, token, claims, reason, note, correlation_id, created_at, updated_at, ended_at, now() AS now
  FROM sagas WHERE id = $1;

-- name: order_about
-- The order that a subject is about; none of an account's message, a webhook's delivery, an alert.
SELECT id FROM orders WHERE id = $1
UNION ALL SELECT order_id FROM notifications WHERE id = $1 AND order_id IS NOT NULL
UNION ALL SELECT order_id FROM refunds WHERE id = $1
 LIMIT 1;

-- name: given
-- What a job of kind $2 about $1 was given, and what came of it.
SELECT jsonb_pretty(jsonb_build_object(
           'items', (SELECT jsonb_agg(jsonb_build_object('productId', product_id, 'sku', sku, 'quantity', quantity,
                                                         'unitPrice', unit_price) ORDER BY position)
                       FROM order_lines WHERE order_id = orders.id),
           'totalAmount', total_amount, 'currency', currency, 'paymentMethod', payment_method, 'notes', notes,
           'shippingAddress', shipping_address, 'customerId', customer_id)) AS input,
       jsonb_pretty(jsonb_strip_nulls(jsonb_build_object('state', state, 'failureReason', failure_reason,
                                                         'endedAt', ended_at))) AS result
  FROM orders WHERE id = $1 AND $2 = 'order'
UNION ALL
SELECT jsonb_pretty(jsonb_build_object('kind', kind, 'channel', channel, 'recipient', recipient, 'language', language,
                                       'variables', variables, 'orderId', order_id)),
       jsonb_pretty(jsonb_strip_nulls(jsonb_build_object('state', state, 'providerId', provider_id, 'error', error,
                                                         'sentAt', sent_at)))
  FROM notifications WHERE id = $1 AND $2 = 'notification'
UNION ALL
SELECT jsonb_pretty(jsonb_build_object(
           'kind', kind, 'amount', amount, 'currency', currency, 'isRestocked', is_restocked, 'reason', reason,
           'actor', actor, 'orderId', order_id,
           'units', (SELECT jsonb_object_agg(product_id, quantity) FROM refund_lines WHERE refund_id = refunds.id))),
       jsonb_pretty(jsonb_strip_nulls(jsonb_build_object('state', state, 'endedAt', ended_at)))
  FROM refunds WHERE id = $1 AND $2 = 'refund'
UNION ALL
SELECT jsonb_pretty(jsonb_build_object('url', url, 'eventType', event_type, 'body', body::jsonb)),
       jsonb_pretty(jsonb_strip_nulls(jsonb_build_object('state', webhook_deliveries.state, 'endedAt', ended_at,
                                                         'status', last.status, 'answer', last.answer)))
  FROM webhook_deliveries JOIN webhook_endpoints ON webhook_endpoints.id = endpoint_id
  LEFT JOIN LATERAL (SELECT status, answer FROM webhook_attempts WHERE delivery_id = webhook_deliveries.id
                      ORDER BY at DESC LIMIT 1) AS last ON true
 WHERE webhook_deliveries.id = $1 AND $2 = 'webhook'
UNION ALL
SELECT jsonb_pretty(jsonb_build_object('queue', queue, 'step', step, 'direction', direction, 'error', error,
                                       'sagaId', saga_id) || payload), NULL
  FROM dead_letters WHERE id = $1 AND $2 = 'alert';

-- name: letters
-- What was given up on of this saga.
SELECT created_at, step, direction, error FROM dead_letters WHERE saga_id = $1 ORDER BY id DESC LIMIT 50;
