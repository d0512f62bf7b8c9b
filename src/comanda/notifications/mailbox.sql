-- What the mock providers sent. See migrations/0007_notifications.sql.

-- name: listed
SELECT key, channel, recipient, subject, body_text, body_html, order_id, correlation_id, sent_at FROM mailbox
 WHERE ($1::text IS NULL OR lower(recipient) = lower($1)) AND ($2::uuid IS NULL OR order_id = $2)
   AND (order_id IS NOT NULL OR NOT $4::bool)
 ORDER BY sent_at DESC, key LIMIT $3;
