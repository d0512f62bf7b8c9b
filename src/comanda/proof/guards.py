"""The constraints that carry the promises, and how each is declared in the migrations."""

GUARDS = [
    ("stock", "stock_is_not_oversold"),
    ("stock", "stock_on_hand_check"),
    ("reservations", "reservations_one_for_an_order"),
    ("payments", "payments_order_id_key"),
    ("payments", "payments_key_key"),
    ("sagas", "sagas_subject_kind_key"),
    ("idempotency_keys", "idempotency_keys_pkey"),
    ("payments", "payments_refunds_fit"),
    ("notifications", "notifications_order_id_kind_channel_occasion_key"),
]

DEFINITIONS = {
    "stock_is_not_oversold": (
        "ALTER TABLE stock ADD CONSTRAINT stock_is_not_oversold CHECK (held >= 0 AND held <= on_hand)"
    ),
    "stock_on_hand_check": "ALTER TABLE stock ADD CONSTRAINT stock_on_hand_check CHECK (on_hand >= 0)",
    "reservations_one_for_an_order": (
        "CREATE UNIQUE INDEX CONCURRENTLY reservations_one_for_an_order ON reservations (order_id) "
        "WHERE state IN ('ACTIVE', 'FULFILLED')"
    ),
    "payments_order_id_key": "ALTER TABLE payments ADD CONSTRAINT payments_order_id_key UNIQUE (order_id)",
    "payments_key_key": "ALTER TABLE payments ADD CONSTRAINT payments_key_key UNIQUE (key)",
    "sagas_subject_kind_key": "ALTER TABLE sagas ADD CONSTRAINT sagas_subject_kind_key UNIQUE (subject, kind)",
    "idempotency_keys_pkey": (
        "ALTER TABLE idempotency_keys ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (customer_id, key)"
    ),
    "payments_refunds_fit": (
        "ALTER TABLE payments ADD CONSTRAINT payments_refunds_fit "
        "CHECK (refunding >= 0 AND refunded + refunding <= captured)"
    ),
    "notifications_order_id_kind_channel_occasion_key": (
        "ALTER TABLE notifications ADD CONSTRAINT notifications_order_id_kind_channel_occasion_key "
        "UNIQUE (order_id, kind, channel, occasion)"
    ),
}
