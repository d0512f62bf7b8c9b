-- Messages that are put right before they are sent round again. See migrations/0021_bulk.sql.

-- name: messages
-- What letters are about, where that is a message.
SELECT dead_letters.id AS letter_id, notifications.id, notifications.order_id, notifications.kind, channel, recipient,
       language, variables::text AS variables, notifications.state, notifications.error,
       dead_letters.redriven_at IS NULL AND sagas.state = 'COMPENSATION_FAILED' AS is_open
  FROM dead_letters JOIN sagas ON sagas.id = dead_letters.saga_id AND sagas.kind = 'notification'
  JOIN notifications ON notifications.id = sagas.subject
 WHERE dead_letters.id = ANY($1::uuid[])
 ORDER BY notifications.id;

-- name: correct
-- Of what has not gone out.
UPDATE notifications SET recipient = given.recipient, language = given.language
  FROM unnest($1::uuid[], $2::text[], $3::text[]) AS given (id, recipient, language)
 WHERE notifications.id = given.id AND state IN ('PENDING', 'FAILED');

-- name: keep
INSERT INTO message_corrections (id, notification_id, letter_id, before, after, actor, reason)
SELECT id, notification_id, letter_id, before::jsonb, after::jsonb, $6, $7
  FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[])
       AS given (id, notification_id, letter_id, before, after);

-- name: of_messages
SELECT id, notification_id, letter_id, before::text AS before, after::text AS after, actor, reason, at
  FROM message_corrections WHERE notification_id = ANY($1::uuid[]) ORDER BY id;
