-- What 0012 declared is true of the rows that were there: read beside everybody else's work, not under 0012's locks.
ALTER TABLE payments VALIDATE CONSTRAINT payments_refunds_fit;
ALTER TABLE notifications VALIDATE CONSTRAINT notifications_kind_check;
