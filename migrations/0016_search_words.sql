-- A search that was mistyped is put right against the words that products are called by: a few thousand of them, however
-- many products there are. The order of the alphabet of C finds beginnings by the same index.
CREATE TABLE product_words (
    word text COLLATE "C" PRIMARY KEY
);
CREATE INDEX product_words_like ON product_words USING gin (word gin_trgm_ops);

-- Words without a digit, as the search takes a text apart. Numbers are not words that anybody mistypes into others.
CREATE FUNCTION words_of(called text) RETURNS SETOF text LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT word FROM unnest(tsvector_to_array(to_tsvector('simple', called))) AS word
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
