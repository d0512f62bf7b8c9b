-- What is sent to whom, and what came of it. See migrations/0015_webhooks.sql.

-- name: fan_out
-- Each event for each endpoint that wants it, in the order of the events.
INSERT INTO webhook_deliveries (id, endpoint_id, event_id, event_type, lane, body, correlation_id, traceparent)
SELECT uuid_v7(), webhook_endpoints.id, given.id, given.type, given.lane, given.body, given.correlation_id, given.traceparent
  FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[], $7::text[]) WITH ORDINALITY
       AS given (id, type, lane, body, correlation_id, at, traceparent, n)
  JOIN webhook_endpoints ON is_active AND deleted_at IS NULL AND created_at <= given.at
       AND (event_types = '{}' OR given.type = ANY(event_types))
 ORDER BY given.n, webhook_endpoints.id
    ON CONFLICT DO NOTHING
RETURNING id, correlation_id, traceparent;

-- name: send
-- One for one endpoint, whatever it wants.
INSERT INTO webhook_deliveries (id, endpoint_id, event_id, event_type, lane, body, correlation_id, traceparent)
SELECT id, endpoint_id, event_id, type, event_id, body, correlation_id, $7::text
  FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[])
       AS given (id, endpoint_id, event_id, type, body, correlation_id)
RETURNING id, correlation_id, traceparent;

-- name: send_these_again
-- Deliveries that have ended, once more, in their order.
INSERT INTO webhook_deliveries (id, endpoint_id, event_id, event_type, lane, body, correlation_id, is_again)
SELECT uuid_v7(), endpoint_id, event_id, event_type, lane, body, correlation_id, true
  FROM webhook_deliveries
 WHERE endpoint_id = $1 AND id = ANY($2::uuid[]) AND state <> 'PENDING'
 ORDER BY seq
RETURNING id, correlation_id, traceparent;

-- name: send_a_time_again
-- The same for what was first sent from $2 up to $3 (null: now). Ids are made a little before their rows are.
INSERT INTO webhook_deliveries (id, endpoint_id, event_id, event_type, lane, body, correlation_id, is_again)
SELECT uuid_v7(), endpoint_id, event_id, event_type, lane, body, correlation_id, true
  FROM webhook_deliveries
 WHERE endpoint_id = $1 AND id >= uuid_floor(greatest($2::timestamptz - interval '1 minute', 'epoch')) AND created_at >= $2::timestamptz
   AND ($3::timestamptz IS NULL OR created_at < $3) AND state <> 'PENDING' AND NOT is_again
 ORDER BY webhook_deliveries.id, seq LIMIT $4
RETURNING id, correlation_id, traceparent;

-- name: due
-- What to send, where, signed by what; and whether something before it in its lane has not ended, and how long that waits.
-- `is_soon`: it looks again by itself. Whoever ends before this look is committed can't wake it: that may be the one right
-- before it, or, of those that came in together, several at once.
SELECT deliveries.id, deliveries.event_id, deliveries.event_type, deliveries.body, deliveries.endpoint_id, url, secret,
       CASE WHEN old_secret_until > now() THEN old_secret END AS old_secret,
       webhook_endpoints.is_active AND webhook_endpoints.deleted_at IS NULL AS is_wanted,
       first.id IS NOT NULL AS is_behind, sagas.waits_until - now() AS first_waits,
       deliveries.created_at > now() - interval '1 minute' OR NOT EXISTS (
           SELECT 1 FROM webhook_deliveries AS nearer
            WHERE nearer.endpoint_id = deliveries.endpoint_id AND nearer.lane = deliveries.lane
              AND nearer.state = 'PENDING' AND nearer.seq > first.seq AND nearer.seq < deliveries.seq) AS is_soon
  FROM webhook_deliveries AS deliveries JOIN webhook_endpoints ON webhook_endpoints.id = endpoint_id
  LEFT JOIN LATERAL (
    SELECT earlier.id, earlier.seq FROM webhook_deliveries AS earlier
     WHERE earlier.endpoint_id = deliveries.endpoint_id AND earlier.lane = deliveries.lane
       AND earlier.state = 'PENDING' AND earlier.seq < deliveries.seq
     ORDER BY earlier.seq LIMIT 1) AS first ON true
  LEFT JOIN sagas ON sagas.subject = first.id AND sagas.kind = 'webhook'
 WHERE deliveries.id = ANY($1::uuid[]);

-- name: attempted
INSERT INTO webhook_attempts (delivery_id, attempt, headers, status, answer, error, duration_ms)
SELECT delivery_id, attempt, headers::jsonb, status, answer, error, duration_ms
  FROM unnest($1::uuid[], $2::int[], $3::text[], $4::int[], $5::text[], $6::text[], $7::real[])
       AS given (delivery_id, attempt, headers, status, answer, error, duration_ms);

-- name: settle
UPDATE webhook_deliveries SET state = $2, ended_at = now() WHERE id = ANY($1::uuid[]) AND state = 'PENDING'
RETURNING id;

-- name: following
-- The sagas of those that come next in the lanes of these.
SELECT DISTINCT sagas.id
  FROM webhook_deliveries AS ended
 CROSS JOIN LATERAL (
    SELECT later.id FROM webhook_deliveries AS later
     WHERE later.endpoint_id = ended.endpoint_id AND later.lane = ended.lane
       AND later.state = 'PENDING' AND later.seq > ended.seq
     ORDER BY later.seq LIMIT 1) AS following
  JOIN sagas ON sagas.subject = following.id AND sagas.kind = 'webhook'
 WHERE ended.id = ANY($1::uuid[]);

-- name: mute_since
-- The endpoints of these that have taken nothing that came later: one event that a receiver refuses is no silence.
SELECT DISTINCT given.endpoint_id
  FROM webhook_deliveries AS given
 WHERE given.id = ANY($1::uuid[])
   AND NOT EXISTS (SELECT 1 FROM webhook_deliveries AS later
                    WHERE later.endpoint_id = given.endpoint_id AND later.id > given.id AND later.state = 'DELIVERED')
 ORDER BY given.endpoint_id;

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

-- name: forget
-- What ended longer than $1 ago, so many at a time, with its tries; the sagas' subjects.
WITH old AS (
    SELECT id FROM webhook_deliveries WHERE ended_at < now() - $1::interval ORDER BY ended_at LIMIT $2
), tries AS (
    DELETE FROM webhook_attempts WHERE delivery_id IN (SELECT id FROM old)
)
DELETE FROM webhook_deliveries WHERE id IN (SELECT id FROM old) RETURNING id;
