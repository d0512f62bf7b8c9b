-- Where events are sent. See migrations/0015_webhooks.sql. `updated_at` never stands still, as with products.

-- name: create
INSERT INTO webhook_endpoints (id, url, description, event_types, secret)
SELECT id, url, description, ARRAY(SELECT jsonb_array_elements_text(event_types::jsonb)), secret
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[])
       AS given (id, url, description, event_types, secret)
RETURNING id, url, description, event_types, is_active, disabled_reason, created_at, updated_at;

-- name: living
SELECT id, url, description, event_types, is_active, disabled_reason, created_at, updated_at
  FROM webhook_endpoints WHERE deleted_at IS NULL AND ($1::uuid[] IS NULL OR id = ANY($1)) ORDER BY id;

-- name: rewrite
-- Those that are there. An endpoint that is switched on again has no reason to be off.
UPDATE webhook_endpoints
   SET url = given.url, description = given.description,
       event_types = ARRAY(SELECT jsonb_array_elements_text(given.event_types::jsonb)), is_active = given.is_active,
       disabled_reason = CASE WHEN given.is_active THEN NULL ELSE coalesce(disabled_reason, 'SWITCHED_OFF') END,
       updated_at = greatest(now(), webhook_endpoints.updated_at + interval '1 microsecond')
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bool[])
       AS given (id, url, description, event_types, is_active)
 WHERE webhook_endpoints.id = given.id AND deleted_at IS NULL
RETURNING webhook_endpoints.id, webhook_endpoints.url, webhook_endpoints.description, webhook_endpoints.event_types,
          webhook_endpoints.is_active, disabled_reason, created_at, updated_at;

-- name: locked
SELECT id, url, description, event_types, is_active, disabled_reason, created_at, updated_at
  FROM webhook_endpoints WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL ORDER BY id FOR UPDATE;

-- name: delete
UPDATE webhook_endpoints SET deleted_at = now(), is_active = false, updated_at = now()
 WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL RETURNING id;

-- name: rotate
-- The secret that was there signs beside the new one until its time is over.
UPDATE webhook_endpoints
   SET old_secret = webhook_endpoints.secret, old_secret_until = now() + $3::interval, secret = given.secret,
       updated_at = greatest(now(), webhook_endpoints.updated_at + interval '1 microsecond')
  FROM unnest($1::uuid[], $2::bytea[]) AS given (id, secret)
 WHERE webhook_endpoints.id = given.id AND deleted_at IS NULL RETURNING webhook_endpoints.id;

-- name: disable
UPDATE webhook_endpoints
   SET is_active = false, disabled_reason = $2, updated_at = greatest(now(), webhook_endpoints.updated_at + interval '1 microsecond')
 WHERE id IN (SELECT id FROM webhook_endpoints WHERE id = ANY($1::uuid[]) AND is_active ORDER BY id FOR UPDATE);

-- name: is_anybody_there
SELECT EXISTS (SELECT 1 FROM webhook_endpoints WHERE is_active AND deleted_at IS NULL);
