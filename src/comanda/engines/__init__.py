"""The engines that Comanda brings along (PostgreSQL, Valkey) and the supervisor that keeps processes alive."""
