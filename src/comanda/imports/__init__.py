"""Products and stock from files."""
