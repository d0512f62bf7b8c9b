-- The tree of categories. See migrations/0010_categories.sql. `updated_at` never stands still, as with products.

-- name: lock_tree
-- One at a time: two moves at once could make a ring of which neither sees both halves.
SELECT pg_advisory_xact_lock(hashtextextended('comanda.categories', 0));

-- name: create
-- Those whose slug is free. Of two with one slug the first is made.
INSERT INTO categories (id, slug, name, description, parent_id, position, is_active)
SELECT id, slug, name, description, parent_id, position, is_active
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::int[], $7::bool[]) WITH ORDINALITY
       AS given (id, slug, name, description, parent_id, position, is_active, n)
 ORDER BY slug, n
    ON CONFLICT (slug) WHERE deleted_at IS NULL DO NOTHING
RETURNING id, slug, name, description, parent_id, position, is_active, created_at, updated_at;

-- name: find
SELECT id, slug, name, description, parent_id, position, is_active, created_at, updated_at
  FROM categories WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL;

-- name: locked
SELECT id, slug, name, description, parent_id, position, is_active, created_at, updated_at
  FROM categories WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE;

-- name: find_by_slug
SELECT id, slug, name, description, parent_id, position, is_active, created_at, updated_at
  FROM categories WHERE slug = ANY($1::text[]) AND deleted_at IS NULL;

-- name: living
-- All that are there, for the tree; it is small.
SELECT id, slug, name, description, parent_id, position, is_active, created_at, updated_at
  FROM categories WHERE deleted_at IS NULL ORDER BY position, name, id;

-- name: page
SELECT id, slug, name, description, parent_id, position, is_active, created_at, updated_at, count(*) OVER () AS total
  FROM categories
 WHERE deleted_at IS NULL AND ($1::bool IS NULL OR is_active = $1::bool)
   AND ($2::uuid IS NULL OR parent_id = $2::uuid)
   AND ($3::text IS NULL OR strpos(lower(name || ' ' || slug), lower($3::text)) > 0)
 ORDER BY position, name, id OFFSET $4::bigint LIMIT $5::bigint;

-- name: count
SELECT count(*) FROM categories
 WHERE deleted_at IS NULL AND ($1::bool IS NULL OR is_active = $1::bool)
   AND ($2::uuid IS NULL OR parent_id = $2::uuid)
   AND ($3::text IS NULL OR strpos(lower(name || ' ' || slug), lower($3::text)) > 0);

-- name: rewrite
UPDATE categories
   SET slug = given.slug, name = given.name, description = given.description, parent_id = given.parent_id,
       position = given.position, is_active = given.is_active,
       updated_at = greatest(now(), categories.updated_at + interval '1 microsecond')
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::int[], $7::bool[])
       AS given (id, slug, name, description, parent_id, position, is_active)
 WHERE categories.id = given.id AND categories.deleted_at IS NULL
RETURNING categories.id, categories.slug, categories.name, categories.description, categories.parent_id,
          categories.position, categories.is_active, categories.created_at, categories.updated_at;

-- name: set_active
UPDATE categories SET is_active = $2, updated_at = greatest(now(), categories.updated_at + interval '1 microsecond')
 WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL
RETURNING id, slug, name, description, parent_id, position, is_active, created_at, updated_at;

-- name: lock
-- Before it is looked what is in them: who is just putting something there is waited for.
SELECT id FROM categories WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL ORDER BY id FOR UPDATE;

-- name: in_use
-- What stands in the way of deleting them: categories below that stay, and products.
SELECT given.id,
       (SELECT count(*) FROM categories AS below
         WHERE below.parent_id = given.id AND below.deleted_at IS NULL AND below.id <> ALL($1::uuid[])) AS categories,
       (SELECT count(*) FROM products WHERE category_id = given.id AND deleted_at IS NULL) AS products
  FROM unnest($1::uuid[]) AS given (id);

-- name: delete
UPDATE categories SET deleted_at = now(), updated_at = now(), is_active = false
 WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL
RETURNING id;
