-- Products. See migrations/0002_catalog_and_inventory.sql. Tags come as JSON: unnest can't take a row of rows apart.
-- `updated_at` never stands still: of two changes that begin in one microsecond each has a time of its own (ETags).

-- name: create
-- Those whose SKU is free. Of two with one SKU the first is made.
INSERT INTO products (id, name, description, brand, tags, images, attributes, category_id, weight, price, currency,
                      cost_price, compare_at_price, track_inventory, minimum_stock, is_active, sku)
SELECT id, name, description, brand, ARRAY(SELECT jsonb_array_elements_text(tags::jsonb)), images::jsonb,
       attributes::jsonb, category_id, weight, price, currency, cost_price, compare_at_price, track_inventory,
       minimum_stock, is_active, sku
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[],
              $9::numeric[], $10::bigint[], $11::text[], $12::bigint[], $13::bigint[], $14::bool[], $15::int[],
              $16::bool[], $17::text[]) WITH ORDINALITY
       AS given (id, name, description, brand, tags, images, attributes, category_id, weight, price, currency,
                 cost_price, compare_at_price, track_inventory, minimum_stock, is_active, sku, position)
 ORDER BY sku, position
    ON CONFLICT (sku) WHERE deleted_at IS NULL DO NOTHING
RETURNING id, sku, name, description, brand, tags, images, attributes, category_id, weight, price, currency, cost_price,
          compare_at_price, track_inventory, minimum_stock, is_active, created_at, updated_at, deleted_at;

-- name: find
SELECT id, sku, name, description, brand, tags, images, attributes, category_id, weight, price, currency, cost_price,
       compare_at_price, track_inventory, minimum_stock, is_active, created_at, updated_at, deleted_at
  FROM products WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL;

-- name: locked
SELECT id, sku, name, description, brand, tags, images, attributes, category_id, weight, price, currency, cost_price,
       compare_at_price, track_inventory, minimum_stock, is_active, created_at, updated_at, deleted_at
  FROM products WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL
 ORDER BY id FOR NO KEY UPDATE;

-- name: locked_skus
SELECT id, sku, name, description, brand, tags, images, attributes, category_id, weight, price, currency, cost_price,
       compare_at_price, track_inventory, minimum_stock, is_active, created_at, updated_at, deleted_at
  FROM products WHERE sku = ANY($1::text[]) AND deleted_at IS NULL
 ORDER BY id FOR NO KEY UPDATE;

-- name: shared_categories
-- Those that are there, and stay there until the end: who deletes one waits, and then sees what is in it.
SELECT id FROM categories WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL ORDER BY id FOR SHARE;

-- name: of_skus
SELECT id, sku FROM products WHERE sku = ANY($1::text[]) AND deleted_at IS NULL;

-- name: rewrite
UPDATE products
   SET name = given.name, description = given.description, brand = given.brand,
       tags = ARRAY(SELECT jsonb_array_elements_text(given.tags::jsonb)), images = given.images::jsonb,
       attributes = given.attributes::jsonb, category_id = given.category_id, weight = given.weight,
       price = given.price, currency = given.currency, cost_price = given.cost_price,
       compare_at_price = given.compare_at_price, track_inventory = given.track_inventory,
       minimum_stock = given.minimum_stock, is_active = given.is_active,
       updated_at = greatest(now(), products.updated_at + interval '1 microsecond')
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[],
              $9::numeric[], $10::bigint[], $11::text[], $12::bigint[], $13::bigint[], $14::bool[], $15::int[],
              $16::bool[])
       AS given (id, name, description, brand, tags, images, attributes, category_id, weight, price, currency,
                 cost_price, compare_at_price, track_inventory, minimum_stock, is_active)
 WHERE products.id = given.id
RETURNING products.id, products.sku, products.name, products.description, products.brand, products.tags,
          products.images, products.attributes, products.category_id, products.weight, products.price,
          products.currency, products.cost_price, products.compare_at_price, products.track_inventory,
          products.minimum_stock, products.is_active, products.created_at, products.updated_at, products.deleted_at;

-- name: delete
UPDATE products SET deleted_at = now(), updated_at = now(), is_active = false
 WHERE id IN (SELECT id FROM products WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL ORDER BY id FOR UPDATE)
RETURNING id;

-- name: set_active
UPDATE products SET is_active = $2, updated_at = greatest(now(), products.updated_at + interval '1 microsecond')
 WHERE id IN (SELECT id FROM products WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE)
RETURNING id, sku, name, description, brand, tags, images, attributes, category_id, weight, price, currency, cost_price,
          compare_at_price, track_inventory, minimum_stock, is_active, created_at, updated_at, deleted_at;

-- name: prices
-- What the pre-check of an order has to know.
SELECT id, price, currency, sku, name, is_active FROM products WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL;

-- name: page
-- For a connection that plans anew each time: then only one of the orders below is left, and an index has it.
SELECT id, sku, name, description, brand, tags, images, attributes, category_id, weight, price, currency, cost_price,
       compare_at_price, track_inventory, minimum_stock, is_active, created_at, updated_at, deleted_at
  FROM products
 WHERE ($1::text IS NULL
        OR lower(name || E'\n' || sku || E'\n' || coalesce(brand, '') || E'\n' || coalesce(description, '')) LIKE $1)
   AND ($2::text IS NULL OR lower(coalesce(brand, '')) = lower($2))
   AND CASE $3::text WHEN 'deleted' THEN deleted_at IS NOT NULL ELSE deleted_at IS NULL END
   AND CASE $3::text WHEN 'active' THEN is_active WHEN 'inactive' THEN NOT is_active ELSE true END
   AND ($4::bigint IS NULL OR price >= $4) AND ($5::bigint IS NULL OR price <= $5)
   AND ($6::bool IS NULL OR coalesce(compare_at_price > price, false) = $6)
   AND ($7::text[] IS NULL OR tags && $7)
 ORDER BY CASE WHEN $8::text = 'createdAt' AND $9::bool THEN created_at END DESC,
          CASE WHEN $8 = 'createdAt' AND NOT $9 THEN created_at END,
          CASE WHEN $8 = 'updatedAt' AND $9 THEN updated_at END DESC,
          CASE WHEN $8 = 'updatedAt' AND NOT $9 THEN updated_at END,
          CASE WHEN $8 = 'price' AND $9 THEN price END DESC,
          CASE WHEN $8 = 'price' AND NOT $9 THEN price END,
          CASE WHEN $8 = 'name' AND $9 THEN lower(name) END DESC,
          CASE WHEN $8 = 'name' AND NOT $9 THEN lower(name) END,
          CASE WHEN $8 = 'sku' AND $9 THEN sku END DESC,
          CASE WHEN $8 = 'sku' AND NOT $9 THEN sku END,
          CASE WHEN $8 = 'brand' AND $9 THEN lower(coalesce(brand, '')) END DESC,
          CASE WHEN $8 = 'brand' AND NOT $9 THEN lower(coalesce(brand, '')) END,
          CASE WHEN $9 THEN id END DESC, CASE WHEN NOT $9 THEN id END
 LIMIT $10 OFFSET $11;

-- name: count
-- With the conditions of `page`.
SELECT count(*) FROM products
 WHERE ($1::text IS NULL
        OR lower(name || E'\n' || sku || E'\n' || coalesce(brand, '') || E'\n' || coalesce(description, '')) LIKE $1)
   AND ($2::text IS NULL OR lower(coalesce(brand, '')) = lower($2))
   AND CASE $3::text WHEN 'deleted' THEN deleted_at IS NOT NULL ELSE deleted_at IS NULL END
   AND CASE $3::text WHEN 'active' THEN is_active WHEN 'inactive' THEN NOT is_active ELSE true END
   AND ($4::bigint IS NULL OR price >= $4) AND ($5::bigint IS NULL OR price <= $5)
   AND ($6::bool IS NULL OR coalesce(compare_at_price > price, false) = $6)
   AND ($7::text[] IS NULL OR tags && $7);

-- name: search
-- Products on sale by the beginnings of words, in either of two languages or as they stand: those that are called so, the
-- best first, then those of which it is said. Of each no more than 500 are looked at, whatever the word. $1 are words, $2
-- which of them stand for the same. One row without a product where the page is empty.
WITH given AS (
    SELECT word, place, ts_lexize('english_stem', word) AS english, ts_lexize('spanish_stem', word) AS spanish
      FROM unnest($1::text[], $2::int[]) AS given (word, place)
), told AS (  -- "the" and "de" tell nothing beside another word
    SELECT *, '{}' IN (english, spanish) AS is_idle, bool_and('{}' IN (english, spanish)) OVER () AS are_idle FROM given
), meant AS (
    SELECT DISTINCT place, lexeme FROM told, unnest(english || spanish || word) AS lexeme WHERE are_idle OR NOT is_idle
), asked AS (  -- the shortest beginnings: they find the others
    SELECT string_agg('(' || alternatives || ')', ' & ')::tsquery AS words
      FROM (SELECT string_agg(quote_literal(lexeme) || ':*', ' | ') AS alternatives FROM meant
             WHERE NOT EXISTS (SELECT 1 FROM meant AS shorter
                                WHERE shorter.place = meant.place AND shorter.lexeme <> meant.lexeme
                                  AND starts_with(meant.lexeme, shorter.lexeme))
             GROUP BY place) AS places
), called AS (
    SELECT id, lower(name) AS name, ts_rank(products.words, asked.words) AS rank FROM products, asked
     WHERE products.words @@ asked.words AND deleted_at IS NULL AND is_active LIMIT 500
), said AS (
    SELECT id, lower(name) AS name, 0::real AS rank FROM products, asked
     WHERE (SELECT count(*) FROM called) < 100
       AND products.all_words @@ asked.words AND deleted_at IS NULL AND is_active LIMIT 500
), found AS (
    SELECT id, max(name) AS name, max(rank) AS rank FROM (SELECT * FROM called UNION ALL SELECT * FROM said) AS matches
     GROUP BY id
), shown AS (
    SELECT * FROM found ORDER BY rank DESC, name, id LIMIT $3 OFFSET $4
)
SELECT products.id, sku, products.name, description, brand, tags, images, attributes, category_id, weight, price, currency,
       cost_price, compare_at_price, track_inventory, minimum_stock, is_active, created_at, updated_at, deleted_at, total
  FROM (SELECT count(*) AS total FROM found) AS counted LEFT JOIN (shown JOIN products USING (id)) ON true
 ORDER BY shown.rank DESC, shown.name, products.id;

-- name: likened
-- Of each word that no product is called by, nor by one that begins so: the likest three of those that one is.
SELECT asked.word,
       ARRAY(SELECT word FROM product_words WHERE word % asked.word ORDER BY similarity(word, asked.word) DESC, word LIMIT 3)
           AS likes
  FROM unnest($1::text[]) AS asked (word)
 WHERE NOT EXISTS (SELECT FROM product_words AS known
                    WHERE known.word >= asked.word AND known.word < asked.word || chr(1114111));

-- name: version
-- Of the catalogue: it stands while no product changes.
SELECT version FROM catalogue;
