-- What operators did. See migrations/0008_operators.sql.

-- name: record
INSERT INTO audit (id, actor, act, subject, reason, detail)
SELECT id, actor, act, subject, reason, detail::jsonb
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
       AS given (id, actor, act, subject, reason, detail);

-- name: listed
SELECT id, at, actor, act, subject, reason, detail::text AS detail FROM audit
 WHERE ($1::text IS NULL OR subject = $1) AND ($3::uuid IS NULL OR id < $3)
 ORDER BY id DESC LIMIT $2;

-- name: of_subjects
SELECT id, at, actor, act, subject, reason, detail::text AS detail FROM audit
 WHERE subject = ANY($1::text[]) ORDER BY id;
