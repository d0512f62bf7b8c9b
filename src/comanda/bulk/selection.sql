-- What a filter shows of what can be acted on. See bulk/filters.py. Each statement reads what has not ended, by an index.

-- name: moment
-- Whatever was last written before this moment and can be seen from now on could be seen at it: no transaction that was open
-- then had begun before. (None of ours is open for half a minute; a backup may be, and writes nothing.)
SELECT greatest(least(min(xact_start), now()), now() - interval '30 seconds') FROM pg_stat_activity
 WHERE backend_type = 'client backend' AND datname = current_database() AND pid <> pg_backend_pid();

-- name: products
-- Those that $1 is a part of, as a pattern of LIKE.
SELECT id FROM products
 WHERE lower(name || E'\n' || sku || E'\n' || coalesce(brand, '') || E'\n' || coalesce(description, ''))
       LIKE '%' || lower($1) || '%'
   AND ($2::timestamptz IS NULL OR updated_at < $2)
 LIMIT 200;

-- name: orders
-- Orders that have not ended, unmoved since $1, older than $2 minutes, of customers $3, in state $4 ('stuck': their saga is),
-- at step $5, with an error like $6, with one of the products $7; oldest first.
WITH span AS MATERIALIZED (
    (SELECT id FROM orders WHERE $4::text IS DISTINCT FROM 'stuck' AND ended_at IS NULL
        AND ($3::uuid[] IS NULL OR customer_id = ANY($3::uuid[])))
    UNION ALL
    (SELECT subject FROM sagas WHERE $4::text = 'stuck' AND state = 'COMPENSATION_FAILED' AND kind = 'order')
)
SELECT sagas.id AS saga_id, NULL::uuid AS letter_id, sagas.kind, sagas.version, sagas.subject, sagas.state, sagas.step,
       sagas.direction
  FROM span JOIN orders ON orders.id = span.id JOIN sagas ON sagas.id = orders.saga_id
 WHERE sagas.ended_at IS NULL AND sagas.updated_at < $1
   AND ($2::int IS NULL OR orders.id < uuid_floor($1 - make_interval(mins => $2)))
   AND ($3::uuid[] IS NULL OR orders.customer_id = ANY($3::uuid[]))
   AND ($4::text IS NULL OR $4 IN ('stuck', 'open') OR orders.state = $4)
   AND ($5::text IS NULL OR sagas.step = $5)
   AND ($6::text IS NULL
        OR concat_ws(' ', orders.failure_reason, sagas.reason, sagas.note) ILIKE '%' || $6 || '%')
   AND ($7::uuid[] IS NULL OR EXISTS (SELECT 1 FROM order_lines
                                       WHERE order_lines.order_id = orders.id AND product_id = ANY($7::uuid[])))
 ORDER BY sagas.id LIMIT $8;

-- name: stuck
-- Stuck sagas of whatever kind, unmoved since $1, for $2 minutes, of kind $3, at step $4, that said what is like $5.
SELECT id AS saga_id, NULL::uuid AS letter_id, kind, version, subject, state, step, direction FROM sagas
 WHERE state = 'COMPENSATION_FAILED' AND updated_at < $1
   AND ($2::int IS NULL OR updated_at < $1 - make_interval(mins => $2))
   AND ($3::text IS NULL OR kind = $3) AND ($4::text IS NULL OR step = $4)
   AND ($5::text IS NULL OR concat_ws(' ', note, reason) ILIKE '%' || $5 || '%')
 ORDER BY id LIMIT $6;

-- name: letters
-- Open letters from before $1, $2 minutes old, with fingerprint $3, of queue $4, of step $5, with an error like $6.
SELECT dead_letters.saga_id, dead_letters.id AS letter_id, sagas.kind, sagas.version, sagas.subject, sagas.state,
       coalesce(sagas.step, dead_letters.step) AS step, coalesce(sagas.direction, dead_letters.direction) AS direction
  FROM dead_letters LEFT JOIN sagas ON sagas.id = dead_letters.saga_id
 WHERE redriven_at IS NULL AND dead_letters.created_at < $1
   AND ($2::int IS NULL OR dead_letters.created_at < $1 - make_interval(mins => $2))
   AND ($3::text IS NULL OR fingerprint = $3) AND ($4::text IS NULL OR dead_letters.queue = $4)
   AND ($5::text IS NULL OR dead_letters.step = $5) AND ($6::text IS NULL OR error ILIKE '%' || $6 || '%')
 ORDER BY dead_letters.id LIMIT $7;

-- name: worth
-- The orders that these sagas are about, by currency.
WITH about AS (
    SELECT DISTINCT coalesce(CASE WHEN sagas.kind = 'order' THEN sagas.subject END, notifications.order_id,
                             refunds.order_id) AS order_id
      FROM sagas
      LEFT JOIN notifications ON notifications.id = sagas.subject AND sagas.kind = 'notification'
      LEFT JOIN refunds ON refunds.id = sagas.subject AND sagas.kind = 'refund'
     WHERE sagas.id = ANY($1::uuid[])
)
SELECT currency, count(*) AS orders, sum(total_amount)::bigint AS amount
  FROM about JOIN orders ON orders.id = about.order_id
 GROUP BY currency ORDER BY currency;
