-- What the mock providers sent. See migrations/0007_notifications.sql.

-- name: listed
SELECT key, channel, recipient, subject, body_text, body_html, order_id, correlation_id, sent_at FROM mailbox
 WHERE ($1::text IS NULL OR lower(recipient) = lower($1)) AND ($2::uuid IS NULL OR order_id = $2)
   AND (order_id IS NOT NULL OR NOT $4::bool)
 ORDER BY sent_at DESC, key LIMIT $3;

-- name: page
-- Without the pages themselves. (sent_at, key) is where the last one ended.
SELECT key, channel, recipient, subject, '' AS body_text, NULL AS body_html, order_id, correlation_id, sent_at FROM mailbox
 WHERE sent_at <= $1 AND (sent_at < $1 OR key > $2) AND (order_id IS NOT NULL OR NOT $4::bool)
 ORDER BY sent_at DESC, key LIMIT $3;

-- name: find
SELECT key, channel, recipient, subject, body_text, body_html, order_id, correlation_id, sent_at FROM mailbox
 WHERE key = ANY($1::text[]) AND (order_id IS NOT NULL OR NOT $2::bool);
