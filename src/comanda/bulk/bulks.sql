-- Acts on many: what they are about, how far they have come. See migrations/0021_bulk.sql.

-- name: begin
-- Under an id that the form was given: sent twice it is one act.
INSERT INTO bulk_acts (id, verb, filter, actor, reason, items) VALUES ($1, $2, $3::text::jsonb, $4, $5, $6)
    ON CONFLICT DO NOTHING
RETURNING id, verb, filter::text AS filter, actor, reason, state, items, done, refused, failed, due_at, is_held_back,
          created_at, ended_at;

-- name: snapshot
INSERT INTO bulk_items (bulk_id, position, saga_id, letter_id, kind, subject, stood)
SELECT $1, position, saga_id, letter_id, kind, subject, stood
  FROM unnest($2::int[], $3::uuid[], $4::uuid[], $5::text[], $6::uuid[], $7::text[])
       AS given (position, saga_id, letter_id, kind, subject, stood);

-- name: find
SELECT id, verb, filter::text AS filter, actor, reason, state, items, done, refused, failed, due_at, is_held_back,
       created_at, ended_at
  FROM bulk_acts WHERE id = ANY($1::uuid[]);

-- name: page
SELECT id, verb, filter::text AS filter, actor, reason, state, items, done, refused, failed, due_at, is_held_back,
       created_at, ended_at
  FROM bulk_acts WHERE id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff') ORDER BY id DESC LIMIT $2;

-- name: lately
-- The newest $1, and those that have not ended, 100 of them at the most.
SELECT id, verb, filter::text AS filter, actor, reason, state, items, done, refused, failed, due_at, is_held_back,
       created_at, ended_at
  FROM bulk_acts
 WHERE id IN ((SELECT id FROM bulk_acts ORDER BY id DESC LIMIT $1)
              UNION (SELECT id FROM bulk_acts WHERE state <> 'ENDED' ORDER BY id LIMIT 100))
 ORDER BY id DESC;

-- name: take
-- The oldest that runs, one after the other, so that together they are no faster than one; nothing while somebody else is at
-- it, or while it is not due ($1: even then).
SELECT id, verb, filter::text AS filter, actor, reason, state, items, done, refused, failed, due_at, is_held_back,
       created_at, ended_at
  FROM bulk_acts
 WHERE id = (SELECT id FROM bulk_acts WHERE state = 'RUNNING' ORDER BY id LIMIT 1) AND state = 'RUNNING'
   AND ($1::bool OR due_at <= now())
   FOR UPDATE SKIP LOCKED;

-- name: following
SELECT position, saga_id, letter_id, kind, subject, stood FROM bulk_items
 WHERE bulk_id = $1 AND position > $2 ORDER BY position LIMIT $3;

-- name: settle_items
UPDATE bulk_items SET outcome = given.outcome, stands = given.stands, said = given.said, acted_at = now()
  FROM unnest($2::int[], $3::text[], $4::text[], $5::text[]) AS given (position, outcome, stands, said)
 WHERE bulk_id = $1 AND bulk_items.position = given.position AND bulk_items.outcome IS NULL;

-- name: move_on
-- The mark, in the transaction of the acts. With the last item the act ends. Who came late to a piece may catch up, a
-- second's worth at the most.
UPDATE bulk_acts SET done = done + $2, refused = refused + $3, failed = failed + $4,
       due_at = greatest(due_at, now() - interval '1 second') + $5,
       is_held_back = false,
       state = CASE WHEN done + refused + failed + $2 + $3 + $4 = items THEN 'ENDED' ELSE state END,
       ended_at = CASE WHEN done + refused + failed + $2 + $3 + $4 = items THEN now() END
 WHERE id = $1
RETURNING id, verb, filter::text AS filter, actor, reason, state, items, done, refused, failed, due_at, is_held_back,
          created_at, ended_at;

-- name: hold_back
UPDATE bulk_acts SET due_at = now() + $2, is_held_back = true WHERE id = $1
RETURNING id, verb, filter::text AS filter, actor, reason, state, items, done, refused, failed, due_at, is_held_back,
          created_at, ended_at;

-- name: switch
-- Between two pieces: whoever works on one is waited for.
UPDATE bulk_acts SET state = $3, due_at = now(), is_held_back = false
 WHERE id IN (SELECT id FROM bulk_acts WHERE id = ANY($1::uuid[]) AND state = $2 ORDER BY id FOR UPDATE)
RETURNING id, verb, filter::text AS filter, actor, reason, state, items, done, refused, failed, due_at, is_held_back,
          created_at, ended_at;

-- name: crowd
-- Sagas that workers could take right now, counted up to $1. What stands in a paused queue keeps nobody busy.
SELECT count(*) FROM (
    SELECT 1 FROM sagas JOIN queues ON queues.name = sagas.queue AND NOT is_paused
     WHERE waits_until IS NULL AND state IN ('RUNNING', 'COMPENSATING')
       AND (lease_until IS NULL OR lease_until <= now()) LIMIT $1) AS ready;

-- name: rates
-- Items a second, in the last ten seconds.
SELECT id AS bulk_id, (SELECT count(*) FROM bulk_items
                        WHERE bulk_id = bulk_acts.id AND position > done + refused + failed - 10000
                          AND position <= done + refused + failed AND acted_at > now() - interval '10 seconds')
                      / greatest(least(10, extract(epoch FROM now() - created_at)), 1)::float AS rate
  FROM bulk_acts WHERE state = 'RUNNING' ORDER BY id LIMIT 1;

-- name: results
SELECT position, saga_id, letter_id, kind, subject, stood, outcome, stands, said, acted_at FROM bulk_items
 WHERE bulk_id = $1 AND position > $2 AND (NOT $3::bool OR outcome <> 'done')
 ORDER BY position LIMIT $4;
