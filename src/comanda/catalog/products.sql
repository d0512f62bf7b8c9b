-- Products. See migrations/0002_catalog_and_inventory.sql. Tags come as JSON: unnest can't take a row of rows apart.

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

-- name: rewrite
UPDATE products
   SET name = given.name, description = given.description, brand = given.brand,
       tags = ARRAY(SELECT jsonb_array_elements_text(given.tags::jsonb)), images = given.images::jsonb,
       attributes = given.attributes::jsonb, category_id = given.category_id, weight = given.weight,
       price = given.price, currency = given.currency, cost_price = given.cost_price,
       compare_at_price = given.compare_at_price, track_inventory = given.track_inventory,
       minimum_stock = given.minimum_stock, is_active = given.is_active, updated_at = now()
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
UPDATE products SET is_active = $2, updated_at = now()
 WHERE id IN (SELECT id FROM products WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE)
RETURNING id, sku, name, description, brand, tags, images, attributes, category_id, weight, price, currency, cost_price,
          compare_at_price, track_inventory, minimum_stock, is_active, created_at, updated_at, deleted_at;

-- name: prices
-- What the pre-check of an order has to know.
SELECT id, price, currency, sku, name, is_active FROM products WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL;

-- name: page
WITH chosen AS (
    SELECT *,
           CASE $8::text WHEN 'price' THEN price::numeric
                         WHEN 'createdAt' THEN extract(epoch FROM created_at)
                         WHEN 'updatedAt' THEN extract(epoch FROM updated_at) END AS number_key,
           CASE $8::text WHEN 'name' THEN lower(name)
                         WHEN 'sku' THEN sku
                         WHEN 'brand' THEN lower(coalesce(brand, '')) END AS text_key
      FROM products
     WHERE ($1::text IS NULL OR strpos(lower(name), lower($1)) > 0 OR strpos(lower(sku), lower($1)) > 0
            OR strpos(lower(coalesce(brand, '')), lower($1)) > 0
            OR strpos(lower(coalesce(description, '')), lower($1)) > 0)
       AND ($2::text IS NULL OR lower(brand) = lower($2))
       AND CASE $3::text WHEN 'active' THEN deleted_at IS NULL AND is_active
                         WHEN 'inactive' THEN deleted_at IS NULL AND NOT is_active
                         WHEN 'all' THEN deleted_at IS NULL
                         WHEN 'deleted' THEN deleted_at IS NOT NULL END
       AND ($4::bigint IS NULL OR price >= $4) AND ($5::bigint IS NULL OR price <= $5)
       AND ($6::bool IS NULL OR coalesce(compare_at_price > price, false) = $6)
       AND ($7::text[] IS NULL OR tags && $7)
)
SELECT id, sku, name, description, brand, tags, images, attributes, category_id, weight, price, currency, cost_price,
       compare_at_price, track_inventory, minimum_stock, is_active, created_at, updated_at, deleted_at
  FROM chosen
 ORDER BY CASE WHEN NOT $9::bool THEN number_key END, CASE WHEN $9 THEN number_key END DESC,
          CASE WHEN NOT $9 THEN text_key END, CASE WHEN $9 THEN text_key END DESC,
          CASE WHEN NOT $9 THEN id END, id DESC
 LIMIT $10 OFFSET $11;

-- name: count
-- With the conditions of `page`.
SELECT count(*) FROM products
 WHERE ($1::text IS NULL OR strpos(lower(name), lower($1)) > 0 OR strpos(lower(sku), lower($1)) > 0
        OR strpos(lower(coalesce(brand, '')), lower($1)) > 0
        OR strpos(lower(coalesce(description, '')), lower($1)) > 0)
   AND ($2::text IS NULL OR lower(brand) = lower($2))
   AND CASE $3::text WHEN 'active' THEN deleted_at IS NULL AND is_active
                     WHEN 'inactive' THEN deleted_at IS NULL AND NOT is_active
                     WHEN 'all' THEN deleted_at IS NULL
                     WHEN 'deleted' THEN deleted_at IS NOT NULL END
   AND ($4::bigint IS NULL OR price >= $4) AND ($5::bigint IS NULL OR price <= $5)
   AND ($6::bool IS NULL OR coalesce(compare_at_price > price, false) = $6)
   AND ($7::text[] IS NULL OR tags && $7);
