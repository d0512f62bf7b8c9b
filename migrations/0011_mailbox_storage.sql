-- The mock mailbox keeps its pages as they are. To compress each (pglz) cost more CPU than everything else about a
-- message, and it is read at most once.
ALTER TABLE mailbox ALTER COLUMN body_html SET STORAGE EXTERNAL;
