-- Orders as they are shown. See migrations/0003_orders.sql and 0004_sagas.sql.

-- name: page_of_customer
-- An id has the millisecond in which its order was made: bounds on ids are read by the index, the times then decide.
SELECT orders.id, customer_id, saga_id, orders.state, total_amount, currency, payment_method, shipping_address, notes,
       failure_reason, orders.correlation_id, orders.created_at, orders.updated_at, orders.ended_at,
       sagas.state AS saga_state, sagas.reached
  FROM orders LEFT JOIN sagas ON sagas.id = orders.saga_id
 WHERE customer_id = $1 AND ($2::text[] IS NULL OR orders.state = ANY($2)) AND orders.id < $3
   AND orders.id >= uuid_floor($4::timestamptz - interval '1 minute') AND orders.created_at >= $4
   AND orders.id < uuid_floor($5::timestamptz + interval '1 second') AND orders.created_at < $5
 ORDER BY orders.id DESC LIMIT $6;

-- name: page_of_all
SELECT orders.id, customer_id, saga_id, orders.state, total_amount, currency, payment_method, shipping_address, notes,
       failure_reason, orders.correlation_id, orders.created_at, orders.updated_at, orders.ended_at,
       sagas.state AS saga_state, sagas.reached
  FROM orders LEFT JOIN sagas ON sagas.id = orders.saga_id
 WHERE ($1::text[] IS NULL OR orders.state = ANY($1)) AND orders.id < $2
   AND orders.id >= uuid_floor($3::timestamptz - interval '1 minute') AND orders.created_at >= $3
   AND orders.id < uuid_floor($4::timestamptz + interval '1 second') AND orders.created_at < $4
 ORDER BY orders.id DESC LIMIT $5;

-- name: oldest_of_customer
SELECT orders.id, customer_id, saga_id, orders.state, total_amount, currency, payment_method, shipping_address, notes,
       failure_reason, orders.correlation_id, orders.created_at, orders.updated_at, orders.ended_at,
       sagas.state AS saga_state, sagas.reached
  FROM orders LEFT JOIN sagas ON sagas.id = orders.saga_id
 WHERE customer_id = $1 AND ($2::text[] IS NULL OR orders.state = ANY($2)) AND orders.id > $3
   AND orders.id >= uuid_floor($4::timestamptz - interval '1 minute') AND orders.created_at >= $4
   AND orders.id < uuid_floor($5::timestamptz + interval '1 second') AND orders.created_at < $5
 ORDER BY orders.id LIMIT $6;

-- name: oldest_of_all
SELECT orders.id, customer_id, saga_id, orders.state, total_amount, currency, payment_method, shipping_address, notes,
       failure_reason, orders.correlation_id, orders.created_at, orders.updated_at, orders.ended_at,
       sagas.state AS saga_state, sagas.reached
  FROM orders LEFT JOIN sagas ON sagas.id = orders.saga_id
 WHERE ($1::text[] IS NULL OR orders.state = ANY($1)) AND orders.id > $2
   AND orders.id >= uuid_floor($3::timestamptz - interval '1 minute') AND orders.created_at >= $3
   AND orders.id < uuid_floor($4::timestamptz + interval '1 second') AND orders.created_at < $4
 ORDER BY orders.id LIMIT $5;

-- name: find
SELECT orders.id, customer_id, saga_id, orders.state, total_amount, currency, payment_method, shipping_address, notes,
       failure_reason, orders.correlation_id, orders.created_at, orders.updated_at, orders.ended_at,
       sagas.state AS saga_state, sagas.reached
  FROM orders LEFT JOIN sagas ON sagas.id = orders.saga_id
 WHERE orders.id = ANY($1::uuid[]);

-- name: statuses
SELECT orders.id, customer_id, orders.state, sagas.state AS saga_state, sagas.reached, failure_reason,
       greatest(orders.updated_at, sagas.updated_at) AS updated_at
  FROM orders LEFT JOIN sagas ON sagas.id = orders.saga_id
 WHERE orders.id = ANY($1::uuid[]);

-- name: lines
SELECT order_id, product_id, sku, product_name, quantity, unit_price FROM order_lines
 WHERE order_id = ANY($1::uuid[]) ORDER BY order_id, position;

-- name: payments
SELECT order_id, id, state, amount, captured, refunded, currency, method, decline_code, updated_at FROM payments
 WHERE order_id = ANY($1::uuid[]);

-- name: moves
SELECT order_id, from_state, to_state, reason, actor, at FROM order_moves
 WHERE order_id = ANY($1::uuid[])
 ORDER BY order_id, seq;

-- name: newest_of_customer
SELECT created_at FROM orders WHERE customer_id = $1 ORDER BY id DESC LIMIT 1;
