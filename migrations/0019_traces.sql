-- The trace that something belongs to, as W3C Trace Context writes it (traceparent). Only where a trace is kept: null else.

ALTER TABLE sagas ADD COLUMN traceparent text;
ALTER TABLE outbox ADD COLUMN traceparent text;
ALTER TABLE webhook_deliveries ADD COLUMN traceparent text;
