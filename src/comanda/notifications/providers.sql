-- The mock providers' own store.

-- name: deliver
INSERT INTO mailbox (key, channel, recipient, subject, body_text, body_html, order_id, correlation_id)
SELECT key, channel, recipient, subject, body_text, body_html, order_id, correlation_id
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::uuid[], $8::text[])
       AS given (key, channel, recipient, subject, body_text, body_html, order_id, correlation_id)
 ORDER BY key
    ON CONFLICT (key) DO NOTHING;
