"""The queues' names. A module of their own: who only names one need not load Redis' client."""

QUEUES = ("order-processing", "payment-processing", "inventory-management", "notification-sending")
PRIORITIES = (0, 1, 2)
