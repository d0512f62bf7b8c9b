"""The mock payment gateway: a small service of its own, with its own durable store."""
