-- What is sent to whom, and what came of it. See migrations/0015_webhooks.sql.

-- name: fan_out
-- Each event for each endpoint that wants it, in the order of the events.
INSERT INTO webhook_deliveries (id, endpoint_id, event_id, event_type, lane, body, correlation_id)
SELECT uuid_v7(), webhook_endpoints.id, given.id, given.type, given.lane, given.body, given.correlation_id
  FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[]) WITH ORDINALITY
       AS given (id, type, lane, body, correlation_id, at, n)
  JOIN webhook_endpoints ON is_active AND deleted_at IS NULL AND created_at <= given.at
       AND (event_types = '{}' OR given.type = ANY(event_types))
 ORDER BY given.n, webhook_endpoints.id
    ON CONFLICT DO NOTHING
RETURNING id, correlation_id;

-- name: send
-- One for one endpoint, whatever it wants.
INSERT INTO webhook_deliveries (id, endpoint_id, event_id, event_type, lane, body, correlation_id)
SELECT id, endpoint_id, event_id, type, event_id, body, correlation_id
  FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[])
       AS given (id, endpoint_id, event_id, type, body, correlation_id)
RETURNING id, correlation_id;

-- name: send_again
-- Deliveries that have ended, once more, in their order: of these ids, or of a time.
INSERT INTO webhook_deliveries (id, endpoint_id, event_id, event_type, lane, body, correlation_id, is_again)
SELECT uuid_v7(), endpoint_id, event_id, event_type, lane, body, correlation_id, true
  FROM webhook_deliveries
 WHERE endpoint_id = $1 AND state <> 'PENDING' AND NOT is_again
   AND ($2::uuid[] IS NULL OR id = ANY($2::uuid[]))
   AND ($3::timestamptz IS NULL OR created_at >= $3) AND ($4::timestamptz IS NULL OR created_at < $4)
 ORDER BY seq LIMIT $5
RETURNING id, correlation_id;

-- name: due
-- What to send, where, signed by what; and whether something before it in its lane has not ended.
SELECT deliveries.id, deliveries.event_id, deliveries.event_type, deliveries.body, deliveries.endpoint_id, url, secret,
       CASE WHEN old_secret_until > now() THEN old_secret END AS old_secret,
       webhook_endpoints.is_active AND webhook_endpoints.deleted_at IS NULL AS is_wanted,
       EXISTS (SELECT 1 FROM webhook_deliveries AS earlier
                WHERE earlier.endpoint_id = deliveries.endpoint_id AND earlier.lane = deliveries.lane
                  AND earlier.state = 'PENDING' AND earlier.seq < deliveries.seq) AS is_behind
  FROM webhook_deliveries AS deliveries JOIN webhook_endpoints ON webhook_endpoints.id = endpoint_id
 WHERE deliveries.id = ANY($1::uuid[]);

-- name: attempted
INSERT INTO webhook_attempts (delivery_id, attempt, headers, status, answer, error, duration_ms)
SELECT delivery_id, attempt, headers::jsonb, status, answer, error, duration_ms
  FROM unnest($1::uuid[], $2::int[], $3::text[], $4::int[], $5::text[], $6::text[], $7::real[])
       AS given (delivery_id, attempt, headers, status, answer, error, duration_ms);

-- name: settle
UPDATE webhook_deliveries SET state = $2, ended_at = now() WHERE id = ANY($1::uuid[]) AND state = 'PENDING';

-- name: following
-- The sagas of those that come next in the lanes of these.
SELECT DISTINCT ON (later.endpoint_id, later.lane) sagas.id
  FROM webhook_deliveries AS ended
  JOIN webhook_deliveries AS later ON later.endpoint_id = ended.endpoint_id AND later.lane = ended.lane
       AND later.state = 'PENDING' AND later.seq > ended.seq
  JOIN sagas ON sagas.subject = later.id AND sagas.kind = 'webhook'
 WHERE ended.id = ANY($1::uuid[])
 ORDER BY later.endpoint_id, later.lane, later.seq;

-- name: page
SELECT id, endpoint_id, event_id, event_type, body, is_again, state, created_at, ended_at FROM webhook_deliveries
 WHERE endpoint_id = $1 AND ($2::text IS NULL OR state = $2) AND id < $3
 ORDER BY webhook_deliveries.id DESC LIMIT $4;

-- name: find
SELECT id, endpoint_id, event_id, event_type, body, is_again, state, created_at, ended_at FROM webhook_deliveries
 WHERE id = ANY($1::uuid[]);

-- name: attempts
SELECT delivery_id, attempt, at, headers::text AS headers, status, answer, error, duration_ms FROM webhook_attempts
 WHERE delivery_id = ANY($1::uuid[]) ORDER BY at, attempt;
