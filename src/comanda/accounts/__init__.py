"""Who may sign in, and as what: accounts, passwords, access tokens, refresh tokens."""
