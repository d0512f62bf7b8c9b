"""What stands on a problem's page: why there is such an answer, and what its reader does next."""

# By code: why, what next; in other languages in `language.<tag>.json`.
EXPLAINED: dict[str, tuple[str, str]] = {
    "MALFORMED_REQUEST": (
        "A header or the request itself is not as HTTP has it; `detail` may say which.",
        "Correct it: sent again as it is, it fails again.",
    ),
    "MALFORMED_BODY": (
        "The body could not be parsed as JSON, or ended early; `detail` may name the byte.",
        "Correct what writes it, then send it again.",
    ),
    "IDEMPOTENCY_KEY_REQUIRED": (
        "This call moves money, so it has to be safe to repeat.",
        "Send a header `Idempotency-Key` with a name of your own, and the same one with each repeat.",
    ),
    "UNAUTHENTICATED": (
        "There is no token, it has expired, or its account was switched off or has another role now.",
        "Refresh it with `POST auth/refresh`, or sign in again.",
    ),
    "CREDENTIALS_REFUSED": (
        "No active account has this e-mail and password.",
        (
            "Try again, or have the password replaced with `POST auth/forgot-password`; after many tries there is "
            "a pause."
        ),
    ),
    "REFRESH_REFUSED": (
        "The refresh token has expired, was used before, or its session has ended.",
        "Sign in again.",
    ),
    "FORBIDDEN": (
        "You are signed in, but your role may not do this.",
        "Ask an admin, or sign in with an account that may.",
    ),
    "EMAIL_UNVERIFIED": (
        "This shop takes orders from verified e-mails only.",
        "Use the mailed code with `POST auth/verify-email`, then refresh the access token and send the order again.",
    ),
    "ROUTE_NOT_FOUND": (
        "No route has this path.",
        "Compare it with /api/docs: there is no slash at the end, and letters are lower case.",
    ),
    "USER_NOT_FOUND": (
        "No account has this id, or it was deleted.",
        "Look for it in `GET users`.",
    ),
    "ORDER_NOT_FOUND": (
        "No order has this id, or it is another customer's.",
        "Look for it in `GET orders`.",
    ),
    "PRODUCT_NOT_FOUND": (
        "No product has this id, or it was deleted.",
        "Look for it in `GET products`.",
    ),
    "CATEGORY_NOT_FOUND": (
        "No category has this id or slug, or it was deleted.",
        "Look for it in `GET categories`.",
    ),
    "STOCK_NOT_FOUND": (
        "The product has no stock at this location.",
        "Open it there with `POST inventory`, or name another location.",
    ),
    "RESERVATION_NOT_FOUND": (
        "No reservation has this id.",
        "The id is in the answer of `POST inventory/reserve`.",
    ),
    "WEBHOOK_NOT_FOUND": (
        "No endpoint has this id, or it was deleted.",
        "Look for it in `GET webhooks`.",
    ),
    "DELIVERY_NOT_FOUND": (
        "This endpoint has no such delivery.",
        "Look for it in `GET webhooks/{id}/deliveries`.",
    ),
    "SHIPMENT_NOT_FOUND": (
        "This order has no such parcel.",
        "Look for it in `GET orders/{id}/shipments`.",
    ),
    "REFUND_NOT_FOUND": (
        "This order has no such refund.",
        "Look for it in `GET orders/{id}/refunds`.",
    ),
    "IMPORT_NOT_FOUND": (
        "No import has this id, or it ended so long ago that it was forgotten.",
        "Look for it in `GET imports`.",
    ),
    "PROBLEM_NOT_FOUND": (
        "No problem has this name.",
        "The names are the codes in lower case, with hyphens, as in the `type` of a problem.",
    ),
    "METHOD_NOT_ALLOWED": (
        "The path is there, this method is not.",
        "The header `Allow` names those that are.",
    ),
    "EMAIL_VERIFIED": (
        "The e-mail was verified before, so no code is mailed.",
        "Nothing is left to do; refresh the access token if it does not say so yet.",
    ),
    "EMAIL_TAKEN": (
        "There is an account with this e-mail, in whatever spelling, perhaps a deleted one.",
        "Sign in with it, or take another address.",
    ),
    "LAST_ADMIN": (
        "This is the last active admin, and somebody has to be left who may do everything.",
        "Make another account an admin first.",
    ),
    "SKU_TAKEN": (
        "A product that is not deleted has this SKU.",
        "Change that one, or take another SKU.",
    ),
    "SLUG_TAKEN": (
        "A category that is not deleted has this slug.",
        "Take another slug, or change that category.",
    ),
    "CATEGORY_RING": (
        "The category would stand below itself.",
        "Choose a parent that is not below it, or move what is below it first.",
    ),
    "CATEGORY_IN_USE": (
        "Other categories or products stand in it; `detail` counts them.",
        "Move or delete these first.",
    ),
    "STOCK_EXISTS": (
        "The product's stock at this location was opened before.",
        "Change it with `POST inventory/add-stock` or `remove-stock`.",
    ),
    "STOCK_TAKEN": (
        "Fewer units are free than asked for; `detail` says how many.",
        "Ask for less, at another location, or later.",
    ),
    "WEBHOOK_DISABLED": (
        "The endpoint is off, by hand or by what it answered (`disabledReason`): nothing is sent there.",
        "Switch it on with `PATCH webhooks/{id}` `{isActive: true}`, then ask again.",
    ),
    "DELIVERY_UNDER_WAY": (
        "The delivery has not ended, so nothing can be sent again.",
        "Read it until its `status` is another one than PENDING.",
    ),
    "RESERVATION_OF_ORDER": (
        "An order holds this reservation, and its own process sells it.",
        "Ship the order, or cancel it.",
    ),
    "RESERVATION_ENDED": (
        "The reservation was sold, released or has expired before; `detail` says which.",
        "Make a new one if units are still needed.",
    ),
    "STOCK_HELD": (
        "Orders and reservations hold units of it; `detail` says how many are free to go.",
        "Remove less, or wait until what holds them has ended.",
    ),
    "IDEMPOTENCY_KEY_IN_USE": (
        "The first request with this key has no answer yet.",
        "Wait a moment and repeat it with the same key and body.",
    ),
    "ORDER_STATE": (
        "From where the order stands this can't be done; `detail` names what can.",
        "Read the order again and choose one of these.",
    ),
    "ORDER_FOLLOWED": (
        "A part of the order was shipped or refunded, so it can't be cancelled as a whole.",
        "Refund what is left, or register a return.",
    ),
    "UNITS_EXCEEDED": (
        "More units are named than the order has left for this; `detail` says how many.",
        "Read its shipments and refunds, and name fewer.",
    ),
    "REFUND_EXCEEDED": (
        (
            "More money is asked for than is left of what was captured, promised refunds included; `detail` says "
            "how much."
        ),
        "Ask for that at the most.",
    ),
    "NOTHING_LEFT": (
        "Everything was shipped, refunded or returned before.",
        "Nothing is left to do; read the order to see by whom.",
    ),
    "IMPORT_ENDED": (
        "The import is done or was cancelled, so it can't be cancelled.",
        "Read it to see how far it came.",
    ),
    "CONFLICT": (
        "Something changed while this was being done, such as a price.",
        "Read what it is about again, then repeat the request.",
    ),
    "PRECONDITION_FAILED": (
        "The `ETag` in `If-Match` is not the current one: somebody has changed this since you read it.",
        "Read it again, see whether your change still holds, and send it with the new ETag.",
    ),
    "BODY_TOO_LARGE": (
        "The body is longer than this route takes: 1 MiB, or what imports are allowed.",
        "Send less at a time.",
    ),
    "UNSUPPORTED_MEDIA_TYPE": (
        "The body's type is none that is read here, or it is compressed.",
        "Send JSON with `Content-Type: application/json`, or for imports what `detail` names.",
    ),
    "VALIDATION_FAILED": (
        "Fields, parameters or ids are not as the document wants them.",
        "Each of `errors` names the `field`, a stable `code` and what is needed: correct these.",
    ),
    "TOKEN_REFUSED": (
        "The mailed code was used, has expired, or a newer one was sent.",
        "Ask for another one.",
    ),
    "PASSWORD_REFUSED": (
        "The current password is another one.",
        "Send the right one, or have it replaced with `POST auth/forgot-password`.",
    ),
    "CATEGORY_UNKNOWN": (
        "The category that is named in the body does not exist.",
        "Take an id from `GET categories`.",
    ),
    "CATEGORY_TOO_DEEP": (
        "So many categories may not stand below each other; `detail` says how many.",
        "Choose a parent that is higher up.",
    ),
    "ITEM_UNKNOWN": (
        "A product is named that this order has no line of.",
        "Take the ids from the order's `items`.",
    ),
    "PRODUCT_UNKNOWN": (
        "A product that is named in the body does not exist, or was deleted; `detail` or `errors` says which.",
        "Leave it out, or take an id from `GET products`.",
    ),
    "PRODUCT_INACTIVE": (
        "A product of the order is not on sale at this moment; `detail` says which.",
        "Leave it out, or order when it is on sale again.",
    ),
    "CURRENCIES_MIXED": (
        "The products of the order have prices in more than one currency.",
        "Place one order for each currency.",
    ),
    "AMOUNT_TOO_LARGE": (
        "The total is larger than any JSON reader can hold exactly.",
        "Split the order.",
    ),
    "STOCK_TOO_LARGE": (
        "With this change the location would hold more units than can be counted.",
        "Send a smaller quantity.",
    ),
    "IDEMPOTENCY_KEY_REUSED": (
        "Another request was sent under this key before.",
        "Use a new key for a new intent, and the same body to repeat an old one.",
    ),
    "TOO_MANY_OPEN_ORDERS": (
        "This customer has as many orders under way as are allowed at once.",
        "Wait until some have ended, then send it again with the same Idempotency-Key.",
    ),
    "TOO_MANY_REQUESTS": (
        "More was asked than is allowed in this time, or a password was wrong too often.",
        "Wait as many seconds as `Retry-After` says.",
    ),
    "HEADERS_TOO_LARGE": (
        "The headers are longer than 32 KiB together.",
        "Send fewer or shorter ones.",
    ),
    "INTERNAL": (
        "This is a fault in Comanda, and it was logged.",
        "Repeat the request, orders with the same Idempotency-Key; if it stays, report the `correlationId`.",
    ),
    "OVERLOADED": (
        "More is waiting than can be taken on right now; nothing of this request was kept.",
        "Repeat it after `Retry-After` seconds.",
    ),
    "UNAVAILABLE": (
        "The database or something else that Comanda needs does not answer.",
        (
            "Repeat after `Retry-After` seconds, orders with the same Idempotency-Key: whether they were stored "
            "is known then."
        ),
    ),
    "DRAINING": (
        "This process ends and others take over.",
        "Repeat the request on a new connection.",
    ),
}
