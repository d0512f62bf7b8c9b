-- The sagas' rows and the history of their attempts. See migrations/0004_sagas.sql. What claims sagas answers the fields of
-- `Claimed` (log.py), in their order; times as Unix time, which the driver reads in a twentieth of the time.

-- name: start
-- Sagas for subjects that have none of that kind yet; a second start of the same subject does nothing.
INSERT INTO sagas (id, kind, version, subject, step, queue, priority, reached, since, correlation_id, created_at, updated_at,
                   traceparent)
SELECT given.id, given.kind, given.version, given.subject, given.step, given.queue, given.priority, given.reached,
       now(), given.correlation_id, now(), now(), given.traceparent
  FROM unnest($1::uuid[], $2::text[], $3::int[], $4::uuid[], $5::text[], $6::text[], $7::int[], $8::text[], $9::text[],
              $10::text[])
       AS given (id, kind, version, subject, step, queue, priority, reached, correlation_id, traceparent)
 ORDER BY given.id
    ON CONFLICT (subject, kind) DO NOTHING
RETURNING id;

-- name: claim_hinted
-- Those of the hinted ids that are due in this queue, locked. Whoever holds one already is not waited for.
SELECT id, kind, version, subject, state, step, direction, queue, priority, reached, attempt,
       date_part('epoch', since) AS since, date_part('epoch', now()) AS now, date_part('epoch', lease_until) AS lease_until,
       CASE WHEN lease_until IS NOT NULL THEN worker END AS lost_worker,
       token, claims, reason, note, correlation_id, traceparent, waits_until IS NOT NULL AS waits
  FROM sagas
 WHERE id = ANY($1::uuid[]) AND queue = $2 AND state IN ('RUNNING', 'COMPENSATING')
   AND (waits_until IS NULL OR waits_until <= now()) AND (lease_until IS NULL OR lease_until <= now())
 ORDER BY id
   FOR UPDATE SKIP LOCKED;

-- name: claim_due
-- What is due in this queue, hint or no hint: the most urgent and oldest that wait for nothing, then those whose wait is over.
-- Only at steps that the worker knows ($3): what another release left behind would hold up everybody else.
WITH ready AS (
    SELECT * FROM sagas
     WHERE waits_until IS NULL AND state IN ('RUNNING', 'COMPENSATING') AND queue = $1
       AND (lease_until IS NULL OR lease_until <= now()) AND concat_ws(' ', kind, version, step) = ANY($3::text[])
     ORDER BY priority, id LIMIT $2 FOR UPDATE SKIP LOCKED
), waited AS (
    SELECT * FROM sagas
     WHERE waits_until <= now() AND state IN ('RUNNING', 'COMPENSATING') AND queue = $1
       AND (lease_until IS NULL OR lease_until <= now()) AND concat_ws(' ', kind, version, step) = ANY($3::text[])
     ORDER BY waits_until LIMIT $2 FOR UPDATE SKIP LOCKED
), due AS (SELECT * FROM ready UNION ALL SELECT * FROM waited)
SELECT id, kind, version, subject, state, step, direction, queue, priority, reached, attempt,
       date_part('epoch', since) AS since, date_part('epoch', now()) AS now, date_part('epoch', lease_until) AS lease_until,
       CASE WHEN lease_until IS NOT NULL THEN worker END AS lost_worker,
       token, claims, reason, note, correlation_id, traceparent, waits_until IS NOT NULL AS waits
  FROM due ORDER BY priority, id LIMIT $2;

-- name: claim_named
-- These sagas (or those of these subjects), whatever their state: for an operator, who waits for whoever holds them.
SELECT id, kind, version, subject, state, step, direction, queue, priority, reached, attempt,
       date_part('epoch', since) AS since, date_part('epoch', now()) AS now, date_part('epoch', lease_until) AS lease_until,
       CASE WHEN lease_until IS NOT NULL THEN worker END AS lost_worker,
       token, claims, reason, note, correlation_id, traceparent, waits_until IS NOT NULL AS waits
  FROM sagas WHERE id = ANY($1::uuid[]) OR subject = ANY($1::uuid[])
 ORDER BY id
   FOR UPDATE;

-- name: named
-- The same, only looked at.
SELECT id, kind, version, step, direction, attempt, token FROM sagas
 WHERE (id = ANY($1::uuid[]) OR subject = ANY($1::uuid[])) AND ended_at IS NULL ORDER BY id;

-- name: mark
-- A claim that is committed before the work: counted, so that who dies of it has left a trace, and leased, so that nobody
-- else begins it meanwhile.
UPDATE sagas SET claims = claims + 1, lease_until = now() + $2::interval, worker = $3, token = token + 1
 WHERE id = ANY($1::uuid[]);

-- name: release
-- Marks that are taken back: nothing was done, and their worker lives.
UPDATE sagas SET claims = 0, lease_until = NULL, worker = NULL
 WHERE id IN (SELECT sagas.id FROM sagas JOIN unnest($1::uuid[], $2::bigint[]) AS mine (id, token)
                  ON sagas.id = mine.id AND sagas.token = mine.token
               WHERE lease_until IS NOT NULL ORDER BY sagas.id FOR UPDATE OF sagas SKIP LOCKED);

-- name: acquit
-- A worker that comes late has lived.
UPDATE sagas SET claims = 0
 WHERE id IN (SELECT id FROM sagas WHERE id = ANY($1::uuid[]) AND claims > 0 ORDER BY id FOR UPDATE SKIP LOCKED);

-- name: held
-- Of the remote steps that were leased, those that are still ours: same token, same lease, nobody moved them on. Whoever
-- holds them is nobody lost.
SELECT sagas.id, kind, version, subject, state, step, direction, queue, priority, reached, attempt,
       date_part('epoch', since) AS since, date_part('epoch', now()) AS now, NULL::float8 AS lease_until, NULL AS lost_worker,
       sagas.token, claims, reason, note, correlation_id, traceparent, waits_until IS NOT NULL AS waits
  FROM sagas JOIN unnest($1::uuid[], $2::bigint[]) AS mine (id, token)
    ON sagas.id = mine.id AND sagas.token = mine.token
 WHERE lease_until IS NOT NULL AND state IN ('RUNNING', 'COMPENSATING')
 ORDER BY sagas.id
   FOR UPDATE OF sagas;

-- name: move
-- Each saga's next standing, in one statement. Most go to the same few, so that each of those is given once. A lease raises
-- the fencing token.
UPDATE sagas
   SET state = there.state, step = there.step, direction = there.direction, queue = there.queue,
       attempt = there.attempt, reached = there.reached, reason = there.reason, note = there.note,
       since = CASE WHEN there.is_new_step THEN now() ELSE sagas.since END,
       waits_until = now() + there.wait,
       lease_until = CASE WHEN there.is_leased THEN now() + $15::interval END,
       worker = CASE WHEN there.is_leased THEN $16::text END,
       token = sagas.token + CASE WHEN there.is_leased THEN 1 ELSE 0 END,
       claims = there.claims,
       updated_at = now(),
       ended_at = CASE WHEN there.state IN ('COMPLETED', 'COMPENSATED') THEN now() END
  FROM unnest($1::uuid[], $2::int[]) AS given (id, nr)
  JOIN unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::int[], $8::interval[], $9::text[], $10::text[],
              $11::text[], $12::bool[], $13::bool[], $14::int[]) WITH ORDINALITY
       AS there (state, step, direction, queue, attempt, wait, reached, reason, note, is_new_step, is_leased, claims, nr)
    ON there.nr = given.nr
 WHERE sagas.id = given.id;

-- name: remember
-- The history: one row for each attempt; those of one transaction a microsecond apart, so that they keep their order. Most
-- tell the same few things, so that each of those is given once.
INSERT INTO saga_attempts (saga_id, at, step, direction, attempt, outcome, detail, worker, duration_ms)
SELECT saga_id, now() + interval '1 microsecond' * n, step, direction, attempt, outcome, detail, worker, duration_ms
  FROM unnest($1::uuid[], $2::int[], $3::real[]) WITH ORDINALITY AS given (saga_id, nr, duration_ms, n)
  JOIN unnest($4::text[], $5::text[], $6::int[], $7::text[], $8::text[], $9::text[]) WITH ORDINALITY
       AS told (step, direction, attempt, outcome, detail, worker, nr) ON told.nr = given.nr;

-- name: renew
-- The heartbeat: those that are still ours live on. Whose result is being stored right now needs it no more; to wait
-- for its lock would deadlock with that very transaction.
WITH ours AS (
    SELECT sagas.id FROM sagas JOIN unnest($1::uuid[], $2::bigint[]) AS mine (id, token)
        ON sagas.id = mine.id AND sagas.token = mine.token
     WHERE lease_until IS NOT NULL ORDER BY sagas.id FOR UPDATE OF sagas SKIP LOCKED
)
UPDATE sagas SET lease_until = now() + $3::interval FROM ours WHERE sagas.id = ours.id
RETURNING sagas.id;

-- name: promote
-- Waits that are over; the relay hints at them.
UPDATE sagas SET waits_until = NULL, updated_at = now()
 WHERE id IN (SELECT id FROM sagas WHERE waits_until <= now() AND state IN ('RUNNING', 'COMPENSATING')
               ORDER BY waits_until LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING id, queue, priority;

-- name: overdue
-- Due for longer than $1 and not taken: their hints were lost, or their worker died. So many of each priority, so that mails
-- and webhooks by the thousand don't hide an order. Nothing tells of one whose worker died but this.
SELECT found.id, found.queue, found.priority, found.is_orphan
  FROM generate_series(0, 2) AS wanted (priority)
 CROSS JOIN LATERAL (
    SELECT id, queue, priority, lease_until IS NOT NULL AS is_orphan FROM sagas
     WHERE waits_until IS NULL AND state IN ('RUNNING', 'COMPENSATING') AND sagas.priority = wanted.priority
       AND updated_at < now() - $1::interval AND (lease_until IS NULL OR lease_until < now())
     ORDER BY id LIMIT $2) AS found
 ORDER BY found.priority, found.id;

-- name: backlog
-- How many sagas of this priority could go on right now, counted up to $2.
SELECT count(*) FROM (SELECT 1 FROM sagas WHERE waits_until IS NULL AND state IN ('RUNNING', 'COMPENSATING')
                         AND priority = $1::int LIMIT $2) AS ready;

-- name: ready
-- For each queue: what is ready, counted up to 100,000 in all, and the age of the oldest. Those that wait are not looked at: in
-- an outage they are a million, and this is asked every few seconds.
SELECT queues.name AS queue, count(open.queue) AS ready,
       coalesce(extract(epoch FROM now() - min(open.updated_at)), 0)::float AS oldest_seconds
  FROM queues LEFT JOIN (SELECT queue, updated_at, lease_until FROM sagas
                          WHERE waits_until IS NULL AND state IN ('RUNNING', 'COMPENSATING') LIMIT 100000) AS open
    ON open.queue = queues.name AND open.lease_until IS NULL
 GROUP BY queues.name;

-- name: depths
-- For each queue: what is ready, what waits, what is under way, each counted up to 100,000 in all.
WITH open AS (
    (SELECT queue, false AS waits, lease_until IS NOT NULL AS is_leased, updated_at FROM sagas
      WHERE waits_until IS NULL AND state IN ('RUNNING', 'COMPENSATING') LIMIT 100000)
    UNION ALL
    (SELECT queue, true, false, updated_at FROM sagas
      WHERE waits_until IS NOT NULL AND state IN ('RUNNING', 'COMPENSATING') LIMIT 100000)
)
SELECT queues.name AS queue,
       count(open.queue) FILTER (WHERE NOT waits AND NOT is_leased) AS ready,
       count(open.queue) FILTER (WHERE waits) AS delayed,
       count(open.queue) FILTER (WHERE is_leased) AS running,
       coalesce(extract(epoch FROM now() - min(open.updated_at) FILTER (WHERE NOT waits AND NOT is_leased)), 0)::float
           AS oldest_seconds
  FROM queues LEFT JOIN open ON open.queue = queues.name
 GROUP BY queues.name ORDER BY queues.name;

-- name: show
SELECT * FROM sagas WHERE id = $1 OR subject = $1 ORDER BY created_at;

-- name: history
SELECT * FROM saga_attempts WHERE saga_id = ANY($1::uuid[]) ORDER BY at;

-- name: listed
SELECT * FROM sagas
 WHERE ($1::text[] IS NULL OR state = ANY($1::text[])) AND ($2::text IS NULL OR queue = $2)
 ORDER BY id DESC LIMIT $3;

-- name: unended
-- The newest of a queue that have not ended: out of the newest 20,000 that wait for nothing, the 20,000 that are due first of
-- those that wait, and the newest 20,000 that are stuck. (No index stands on the queue: it changes at each step.)
WITH ready AS (
    SELECT * FROM sagas WHERE waits_until IS NULL AND state IN ('RUNNING', 'COMPENSATING')
     ORDER BY id DESC LIMIT 20000
), waiting AS (
    SELECT * FROM sagas WHERE waits_until IS NOT NULL AND state IN ('RUNNING', 'COMPENSATING')
     ORDER BY waits_until LIMIT 20000
), stuck AS (
    SELECT * FROM sagas WHERE state = 'COMPENSATION_FAILED' ORDER BY id DESC LIMIT 20000
)
SELECT * FROM (TABLE ready UNION ALL TABLE waiting UNION ALL TABLE stuck) AS unended
 WHERE queue = $1 ORDER BY id DESC LIMIT $2;

-- name: stuck_count
SELECT count(*) FROM sagas WHERE state = 'COMPENSATION_FAILED';

-- name: forget
-- Sagas that have ended, of subjects that are no more; their history goes with its week.
DELETE FROM sagas WHERE subject = ANY($1::uuid[]) AND kind = $2 AND ended_at IS NOT NULL;

-- name: hurry
-- What waits is due at once, its attempts as they are.
UPDATE sagas SET waits_until = NULL, updated_at = now()
 WHERE id = ANY($1::uuid[]) AND state IN ('RUNNING', 'COMPENSATING') AND waits_until IS NOT NULL
RETURNING id, queue, priority, step, direction;

-- name: resume
-- A stuck saga stands at its step again, with its attempts before it. That something may have gone out is not
-- forgotten: one attempt forward stays counted.
UPDATE sagas SET state = CASE direction WHEN 'forward' THEN 'RUNNING' ELSE 'COMPENSATING' END,
       attempt = CASE direction WHEN 'forward' THEN least(attempt, 1) ELSE 0 END, claims = 0, since = now(), waits_until = NULL, updated_at = now()
 WHERE id = ANY($1::uuid[]) AND state = 'COMPENSATION_FAILED'
RETURNING id, queue, priority, step, direction;
