-- Orders that are being undone, confirmed ones among them: what the invariants ask again and again. Each part by an index.
CREATE VIEW orders_being_undone AS
    SELECT subject AS order_id FROM sagas WHERE kind = 'order' AND waits_until IS NULL AND state = 'COMPENSATING'
    UNION ALL
    SELECT subject FROM sagas WHERE kind = 'order' AND waits_until IS NOT NULL AND state = 'COMPENSATING'
    UNION ALL
    SELECT subject FROM sagas WHERE kind = 'order' AND state = 'COMPENSATION_FAILED';
