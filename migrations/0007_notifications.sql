-- Messages to customers. One of a kind for an order and channel; delivery is a saga of its own.

CREATE TABLE notifications (
    id           uuid PRIMARY KEY,
    order_id     uuid NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('order_confirmation', 'payment_failure', 'order_cancellation')),
    channel      text NOT NULL CHECK (channel IN ('email', 'sms')),
    recipient    text NOT NULL,
    language     text NOT NULL,
    variables    jsonb NOT NULL,
    state        text NOT NULL DEFAULT 'PENDING' CHECK (state IN ('PENDING', 'SENT', 'FAILED', 'RETRACTED')),
    provider_id  text,
    error        text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    sent_at      timestamptz,
    UNIQUE (order_id, kind, channel)
) WITH (fillfactor = 80);

-- What the mock providers "sent". The key is the provider's own: the same message twice is one message.
CREATE TABLE mailbox (
    key        text PRIMARY KEY,
    channel    text NOT NULL,
    recipient  text NOT NULL,
    subject    text NOT NULL,
    body_text  text NOT NULL,
    body_html  text,
    order_id   uuid,
    -- Of the request that led to the message: as a header on real ones.
    correlation_id text,
    sent_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX mailbox_recipient ON mailbox (recipient);
CREATE INDEX mailbox_order ON mailbox (order_id);
