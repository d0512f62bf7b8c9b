-- Orders' moves from state to state. See migrations/0003_orders.sql.

-- name: move
-- Each order through the states given for it, in order; a state that it already has is passed over. What the table of
-- legal moves ($5, $6) does not allow comes back as illegal, and nothing of that order is written.
WITH wanted AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[]) WITH ORDINALITY AS given (id, to_state, reason, n)
), current AS (
    SELECT id, state FROM orders WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE
), steps AS (
    -- What each state follows, the order's own first of all. (A window, no join: this runs for each batch.)
    SELECT id, to_state, reason, n, lag(to_state) OVER walk AS from_state, first_value(n) OVER walk AS first
      FROM (SELECT id, state AS to_state, NULL AS reason, 0 AS n FROM current
            UNION ALL SELECT id, to_state, reason, n FROM wanted) AS walked
    WINDOW walk AS (PARTITION BY id ORDER BY n)
), judged AS (
    SELECT steps.*, legal.from_state IS NOT NULL AS is_legal
      FROM steps LEFT JOIN unnest($5::text[], $6::text[]) AS legal (from_state, to_state)
        ON legal.from_state = steps.from_state AND legal.to_state = steps.to_state
     WHERE steps.first = 0 AND steps.from_state <> steps.to_state
), refused AS (
    SELECT DISTINCT id FROM judged WHERE NOT is_legal
), kept AS (
    SELECT * FROM judged WHERE id NOT IN (SELECT id FROM refused)
), remembered AS (
    INSERT INTO order_moves (order_id, from_state, to_state, reason, actor)
    SELECT id, from_state, to_state, reason, $4 FROM kept ORDER BY n
), last AS (
    SELECT DISTINCT ON (id) id, to_state, reason FROM kept ORDER BY id, n DESC
), changed AS (
    UPDATE orders SET state = last.to_state, updated_at = now(),
           failure_reason = coalesce(last.reason, failure_reason),
           ended_at = CASE WHEN last.to_state IN ('PENDING', 'PROCESSING', 'PAYMENT_PENDING', 'PAYMENT_FAILED') THEN NULL
                           ELSE coalesce(ended_at, now()) END
      FROM last WHERE orders.id = last.id
    RETURNING orders.id, orders.state, orders.customer_id, orders.total_amount, orders.currency, orders.correlation_id,
              extract(epoch FROM now() - orders.created_at)::float AS seconds
)
SELECT id, state, customer_id, total_amount, currency, correlation_id, seconds, NULL AS illegal FROM changed
UNION ALL
SELECT id, NULL, NULL, NULL, NULL, NULL, NULL, from_state || ' -> ' || to_state FROM judged WHERE NOT is_legal;
