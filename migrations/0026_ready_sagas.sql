-- What is ready is read by its priority: how many orders wait (four times a second in each API process), what is overdue of each
-- priority, what a worker takes that finds no hint. By id alone each of them passed all the mails and webhooks that wait too,
-- which nothing bounds. A saga's priority never changes: its steps are still written beside their rows, without an index.
DROP INDEX sagas_ready;
CREATE INDEX sagas_ready ON sagas (priority, id) WHERE waits_until IS NULL AND state IN ('RUNNING', 'COMPENSATING');
