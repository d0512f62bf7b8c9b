-- Searches among many products: words as they are asked for, and what was mistyped.

-- The words of a text as a search asks for them: signs only keep them apart (the parser would take COF-2 for COF and -2, and
-- 1/2 for a file).
CREATE FUNCTION words_only(said text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN translate(said, '-_./\,;:()[]{}<>+*&#%"''', repeat(' ', 30));

ALTER TABLE products DROP COLUMN words, DROP COLUMN all_words;
ALTER TABLE products
    ADD COLUMN words tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('english', words_only(name)), 'A') || setweight(to_tsvector('spanish', words_only(name)), 'A')
        || setweight(to_tsvector('simple', words_only(name)), 'A') || setweight(to_tsvector('simple', words_only(sku)), 'A')
        || setweight(to_tsvector('simple', words_only(coalesce(brand, ''))), 'B')) STORED,
    ADD COLUMN all_words tsvector GENERATED ALWAYS AS (
        to_tsvector('english', words_only(name || ' ' || coalesce(description, '')))
        || to_tsvector('spanish', words_only(name || ' ' || coalesce(description, '')))
        || to_tsvector('simple', words_only(name || ' ' || sku || ' ' || coalesce(brand, '') || ' '
                                            || coalesce(description, '')))) STORED;
-- Products are searched much more often than written: no search walks through entries that wait to be sorted in.
CREATE INDEX products_words ON products USING gin (words) WITH (fastupdate = off);
CREATE INDEX products_all_words ON products USING gin (all_words) WITH (fastupdate = off);
-- What was mistyped was compared with whole names.
DROP INDEX products_like;

-- A search that was mistyped is put right against the words that products are called by: a few thousand of them, however
-- many products there are. The order of the alphabet of C finds beginnings by the same index.
CREATE TABLE product_words (
    word text COLLATE "C" PRIMARY KEY
);
CREATE INDEX product_words_like ON product_words USING gin (word gin_trgm_ops);

-- Words without a digit, as the search takes a text apart. Numbers are not words that anybody mistypes into others.
CREATE FUNCTION words_of(called text) RETURNS SETOF text LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT word FROM unnest(tsvector_to_array(to_tsvector('simple', words_only(called)))) AS word
     WHERE word !~ '[0-9]' AND length(word) BETWEEN 3 AND 50;
END;

-- A word stays when the last product called so is gone: it finds nothing then, as what was mistyped did before.
CREATE FUNCTION products_called() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO product_words (word)
    SELECT DISTINCT word FROM written, words_of(name || ' ' || coalesce(brand, '')) AS word ORDER BY word
        ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
-- By their names after `products_changed`, whose row lets one transaction in at a time: two that bring the same words
-- can't wait for each other.
CREATE TRIGGER products_words_made AFTER INSERT ON products REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION products_called();
CREATE TRIGGER products_words_changed AFTER UPDATE ON products REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION products_called();

INSERT INTO product_words (word)
SELECT DISTINCT word FROM products, words_of(name || ' ' || coalesce(brand, '')) AS word ORDER BY word;
