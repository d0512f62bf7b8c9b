-- The console's list of accounts, with a million customers: staff without reading all of them.
CREATE INDEX accounts_staff ON accounts (id) WHERE role <> 'customer';
