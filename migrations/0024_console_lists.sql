-- The console's list of accounts, with a million customers: found by a part of their address and names, staff without
-- reading all of them. Searches of accounts are rare, and so are new ones: neither index is on the way of an order.
CREATE INDEX accounts_parts ON accounts USING gin (
    lower(email || ' ' || first_name || ' ' || last_name) gin_trgm_ops) WITH (fastupdate = off);
CREATE INDEX accounts_staff ON accounts (id) WHERE role <> 'customer';
