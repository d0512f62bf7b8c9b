-- What an order's story is told from, beside what its modules read themselves.

-- name: subjects
-- The orders' messages and refunds: sagas of their own.
SELECT id, order_id, 'notification' AS kind, kind || ' ' || channel AS about FROM notifications
 WHERE order_id = ANY($1::uuid[])
UNION ALL
SELECT id, order_id, 'refund', lower(kind) FROM refunds WHERE order_id = ANY($1::uuid[]);

-- name: sagas
SELECT id, kind, version, subject, state, step, direction, queue, reached, attempt, since, waits_until, lease_until, worker,
       reason, note, created_at, updated_at, ended_at, now() AS now
  FROM sagas WHERE subject = ANY($1::uuid[]) ORDER BY created_at, id;

-- name: deliveries
-- What was sent of these events, and each try. (What somebody asked for once more stands in the endpoint's log.)
SELECT deliveries.id, deliveries.event_id, deliveries.event_type, url, tries.attempt, tries.at, tries.status, tries.error,
       tries.duration_ms
  FROM webhook_endpoints JOIN webhook_deliveries AS deliveries
    ON deliveries.endpoint_id = webhook_endpoints.id AND deliveries.event_id = ANY($1::uuid[]) AND NOT is_again
  JOIN webhook_attempts AS tries ON tries.delivery_id = deliveries.id
 ORDER BY tries.at;

-- name: history
SELECT saga_id, at, step, direction, attempt, outcome, detail, worker, duration_ms FROM saga_attempts
 WHERE saga_id = ANY($1::uuid[]) ORDER BY at;
