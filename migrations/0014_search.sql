-- Finding products: by words, English and Spanish; by parts of words; by words that were mistyped. And in every order that
-- a list can have, without sorting all of them.
CREATE EXTENSION IF NOT EXISTS pg_trgm;

-- What a product is called, and all that is said of it: names are looked through first.
ALTER TABLE products
    ADD COLUMN words tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('english', name), 'A') || setweight(to_tsvector('spanish', name), 'A')
        || setweight(to_tsvector('simple', name), 'A') || setweight(to_tsvector('simple', sku), 'A')
        || setweight(to_tsvector('simple', coalesce(brand, '')), 'B')) STORED,
    ADD COLUMN all_words tsvector GENERATED ALWAYS AS (
        to_tsvector('english', name) || to_tsvector('spanish', name) || to_tsvector('simple', name)
        || to_tsvector('simple', sku) || to_tsvector('simple', coalesce(brand, ''))
        || to_tsvector('english', coalesce(description, '')) || to_tsvector('spanish', coalesce(description, ''))
        || to_tsvector('simple', coalesce(description, ''))) STORED;
CREATE INDEX products_words ON products USING gin (words);
CREATE INDEX products_all_words ON products USING gin (all_words);
-- A part of any text of a product; a line break keeps them apart.
CREATE INDEX products_parts ON products USING gin (
    lower(name || E'\n' || sku || E'\n' || coalesce(brand, '') || E'\n' || coalesce(description, '')) gin_trgm_ops);
CREATE INDEX products_like ON products USING gin (lower(name) gin_trgm_ops);

CREATE INDEX products_by_creation ON products (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX products_by_update ON products (updated_at, id) WHERE deleted_at IS NULL;
CREATE INDEX products_by_name ON products (lower(name), id) WHERE deleted_at IS NULL;
CREATE INDEX products_by_price ON products (price, id) WHERE deleted_at IS NULL;
CREATE INDEX products_by_brand ON products (lower(coalesce(brand, '')), id) WHERE deleted_at IS NULL;
CREATE INDEX products_tags ON products USING gin (tags);

-- Counts the changes of products: who has seen a version has seen all that was committed with it. What is kept in memory
-- of the catalogue is as good as read anew while this number stands.
CREATE TABLE catalogue (
    version bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO catalogue (version) VALUES (1);
CREATE FUNCTION products_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE catalogue SET version = version + 1;
    RETURN NULL;
END $$;
CREATE TRIGGER products_changed AFTER INSERT OR UPDATE OR DELETE ON products
    FOR EACH STATEMENT EXECUTE FUNCTION products_changed();
