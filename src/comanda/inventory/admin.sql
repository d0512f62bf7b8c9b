-- Stock as staff sees and changes it. See migrations/0002_catalog_and_inventory.sql.

-- name: create
-- One row for each product that there is and location that was asked for; is_new where stock was opened.
WITH given AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::int[], $5::int[], $6::int[], $7::int[], $8::text[])
             WITH ORDINALITY
             AS given (product_id, location, on_hand, minimum_stock, maximum_stock, reorder_point, reorder_quantity,
                       notes, position)
), opened AS (
    INSERT INTO stock (product_id, location, on_hand, minimum_stock, maximum_stock, reorder_point, reorder_quantity,
                       notes)
    SELECT product_id, location, on_hand, coalesce(given.minimum_stock, products.minimum_stock), maximum_stock,
           reorder_point, reorder_quantity, notes
      FROM given JOIN products ON products.id = product_id AND products.deleted_at IS NULL
     ORDER BY product_id, location, position
        ON CONFLICT (product_id, location) DO NOTHING
    RETURNING *
)
SELECT products.id AS product_id, given.location, coalesce(opened.on_hand, 0) AS on_hand,
       coalesce(opened.held, 0) AS held, coalesce(opened.minimum_stock, 0) AS minimum_stock, opened.maximum_stock,
       opened.reorder_point, opened.reorder_quantity, opened.notes, products.sku, products.name AS product_name,
       opened.product_id IS NOT NULL AS is_new
  FROM (SELECT DISTINCT product_id, location FROM given) AS given
  JOIN products ON products.id = given.product_id AND products.deleted_at IS NULL
  LEFT JOIN opened ON opened.product_id = given.product_id AND opened.location = given.location;

-- name: locked
SELECT stock.product_id, stock.location, on_hand, held, stock.minimum_stock, maximum_stock, reorder_point,
       reorder_quantity, notes, sku, name AS product_name
  FROM stock JOIN products ON products.id = stock.product_id
 WHERE (stock.product_id, stock.location) IN (SELECT * FROM unnest($1::uuid[], $2::text[]))
 ORDER BY stock.product_id, stock.location
   FOR UPDATE OF stock;

-- name: set_on_hand
UPDATE stock SET on_hand = given.on_hand, updated_at = now()
  FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS given (product_id, location, on_hand)
 WHERE stock.product_id = given.product_id AND stock.location = given.location;

-- name: move
INSERT INTO movements (id, product_id, location, kind, on_hand_delta, held_delta, reason, actor, reference)
SELECT id, product_id, location, kind, quantity, 0, reason, $7, $8
  FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::text[])
       AS given (id, product_id, location, kind, quantity, reason);

-- name: of_products
SELECT products.id AS product_id, location, on_hand, held, stock.minimum_stock, maximum_stock, reorder_point,
       reorder_quantity, notes, sku, name AS product_name
  FROM products LEFT JOIN stock ON stock.product_id = products.id
 WHERE products.id = ANY($1::uuid[]) AND products.deleted_at IS NULL
 ORDER BY products.id, location;

-- name: page
SELECT stock.product_id, location, on_hand, held, stock.minimum_stock, maximum_stock, reorder_point, reorder_quantity,
       notes, sku, name AS product_name
  FROM stock JOIN products ON products.id = stock.product_id AND products.deleted_at IS NULL
 WHERE ($1::uuid IS NULL OR stock.product_id = $1) AND ($2::text IS NULL OR location = $2)
   AND ($3::text IS NULL OR $3 = CASE WHEN on_hand - held <= 0 THEN 'out_of_stock'
                                      WHEN on_hand - held <= stock.minimum_stock THEN 'low_stock'
                                      ELSE 'in_stock' END)
   AND ($4::bigint IS NULL OR on_hand - held >= $4) AND ($5::bigint IS NULL OR on_hand - held <= $5)
   AND ($6::text IS NULL OR strpos(lower(name), lower($6)) > 0 OR strpos(lower(sku), lower($6)) > 0)
 ORDER BY sku, location
 LIMIT $7 OFFSET $8;

-- name: following
-- After SKU and location: in the order of the index. $3: a pattern of what name or SKU hold; the long expression is that of
-- products_parts, which finds them.
SELECT stock.product_id, location, on_hand, held, stock.minimum_stock, maximum_stock, reorder_point, reorder_quantity,
       notes, sku, name AS product_name
  FROM products JOIN stock ON stock.product_id = products.id
 WHERE products.deleted_at IS NULL AND sku >= $1 AND (sku > $1 OR location > $2)
   AND ($3::text IS NULL OR (lower(name || E'\n' || sku || E'\n' || coalesce(brand, '') || E'\n' || coalesce(description, ''))
                             LIKE '%' || lower($3) || '%'
                             AND (lower(name) LIKE '%' || lower($3) || '%' OR lower(sku) LIKE '%' || lower($3) || '%')))
 ORDER BY sku, location LIMIT $4;

-- name: count
-- With the conditions of `page`.
SELECT count(*)
  FROM stock JOIN products ON products.id = stock.product_id AND products.deleted_at IS NULL
 WHERE ($1::uuid IS NULL OR stock.product_id = $1) AND ($2::text IS NULL OR location = $2)
   AND ($3::text IS NULL OR $3 = CASE WHEN on_hand - held <= 0 THEN 'out_of_stock'
                                      WHEN on_hand - held <= stock.minimum_stock THEN 'low_stock'
                                      ELSE 'in_stock' END)
   AND ($4::bigint IS NULL OR on_hand - held >= $4) AND ($5::bigint IS NULL OR on_hand - held <= $5)
   AND ($6::text IS NULL OR strpos(lower(name), lower($6)) > 0 OR strpos(lower(sku), lower($6)) > 0);

-- name: stats
SELECT count(DISTINCT product_id) AS products, count(*) AS locations, coalesce(sum(on_hand), 0) AS on_hand,
       coalesce(sum(held), 0) AS held,
       count(*) FILTER (WHERE on_hand > held AND on_hand - held <= stock.minimum_stock) AS low,
       count(*) FILTER (WHERE on_hand = held) AS out
  FROM stock JOIN products ON products.id = stock.product_id AND products.deleted_at IS NULL;
