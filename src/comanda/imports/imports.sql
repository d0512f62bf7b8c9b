-- Imports: the files, how far they were read, what came of their lines. See migrations/0017_imports.sql.

-- name: store
INSERT INTO imports (id, kind, format, columns, digest, key, actor, correlation_id, bytes, lines, bytes_read, lines_read)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
    ON CONFLICT DO NOTHING
RETURNING id, kind, format, columns, key, actor, correlation_id, state, bytes, lines, bytes_read, lines_read, created,
          changed, unchanged, rejected, created_at, ended_at;

-- name: store_pieces
INSERT INTO import_pieces (import_id, number, content)
SELECT $1, number, content FROM unnest($2::int[], $3::bytea[]) AS given (number, content);

-- name: of_key
SELECT id, kind, format, columns, key, actor, correlation_id, state, bytes, lines, bytes_read, lines_read, created,
       changed, unchanged, rejected, created_at, ended_at, digest
  FROM imports WHERE actor = $1 AND key = $2;

-- name: of_file
SELECT id, kind, format, columns, key, actor, correlation_id, state, bytes, lines, bytes_read, lines_read, created,
       changed, unchanged, rejected, created_at, ended_at, digest
  FROM imports WHERE kind = $1 AND format = $2 AND digest = $3 AND key IS NULL;

-- name: find
SELECT id, kind, format, columns, key, actor, correlation_id, state, bytes, lines, bytes_read, lines_read, created,
       changed, unchanged, rejected, created_at, ended_at
  FROM imports WHERE id = ANY($1::uuid[]);

-- name: page
SELECT id, kind, format, columns, key, actor, correlation_id, state, bytes, lines, bytes_read, lines_read, created,
       changed, unchanged, rejected, created_at, ended_at
  FROM imports WHERE id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff') ORDER BY id DESC LIMIT $2;

-- name: take
-- The oldest that has not ended, so that files are worked off in the order in which they came; nothing while somebody
-- else is at it.
SELECT id, kind, format, columns, key, actor, correlation_id, state, bytes, lines, bytes_read, lines_read, created,
       changed, unchanged, rejected, created_at, ended_at
  FROM imports
 WHERE id = (SELECT id FROM imports WHERE ended_at IS NULL ORDER BY id LIMIT 1) AND ended_at IS NULL
   FOR UPDATE SKIP LOCKED;

-- name: take_this
SELECT id, kind, format, columns, key, actor, correlation_id, state, bytes, lines, bytes_read, lines_read, created,
       changed, unchanged, rejected, created_at, ended_at
  FROM imports WHERE id = $1 AND ended_at IS NULL FOR UPDATE;

-- name: pieces
SELECT content FROM import_pieces WHERE import_id = $1 AND number BETWEEN $2 AND $3 ORDER BY number;

-- name: move_on
-- The mark, in the transaction that does what was read. With the file's end the import ends.
UPDATE imports SET state = CASE WHEN $2 = bytes THEN 'COMPLETED' ELSE 'RUNNING' END,
       ended_at = CASE WHEN $2 = bytes THEN now() END, bytes_read = $2, lines_read = $3, created = created + $4,
       changed = changed + $5, unchanged = unchanged + $6, rejected = rejected + $7
 WHERE id = $1
RETURNING id, kind, format, columns, key, actor, correlation_id, state, bytes, lines, bytes_read, lines_read, created,
          changed, unchanged, rejected, created_at, ended_at;

-- name: cancel
UPDATE imports SET state = 'CANCELLED', ended_at = now()
 WHERE id IN (SELECT id FROM imports WHERE id = ANY($1::uuid[]) AND ended_at IS NULL ORDER BY id FOR UPDATE)
RETURNING id, kind, format, columns, key, actor, correlation_id, state, bytes, lines, bytes_read, lines_read, created,
          changed, unchanged, rejected, created_at, ended_at;

-- name: forget_pieces
DELETE FROM import_pieces WHERE import_id = ANY($1::uuid[]);

-- name: reject
INSERT INTO import_rejections (import_id, line, text, field, code, message)
SELECT $1, line, text, field, code, message
  FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[])
       AS given (line, text, field, code, message);

-- name: rejections
SELECT line, text, field, code, message FROM import_rejections
 WHERE import_id = $1 AND line > $2 ORDER BY line LIMIT $3;

-- name: forget_rejections
-- Reports of what ended longer than $1 ago, so many lines at a time: one may have a line for each of its file's.
DELETE FROM import_rejections
 WHERE (import_id, line) IN (
    SELECT import_id, line FROM imports JOIN import_rejections ON import_id = id
     WHERE ended_at < now() - $1::interval ORDER BY import_id, line LIMIT $2);

-- name: forget
-- Imports that ended longer than $1 ago and have no report any more, so many at a time.
DELETE FROM imports
 WHERE id IN (
    SELECT id FROM imports
     WHERE ended_at < now() - $1::interval AND NOT EXISTS (SELECT 1 FROM import_rejections WHERE import_id = id)
     ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED);
