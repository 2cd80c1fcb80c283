INSERT INTO users (email, name)
SELECT 'user' || n || '@shop.example', 'User ' || n FROM generate_series(1, 200) AS n;

INSERT INTO orders (user_id, status, total_cents, placed_at)
SELECT id, status, 100 * id, CASE WHEN status <> 'draft' THEN now() END
FROM users CROSS JOIN unnest(ARRAY['draft', 'placed', 'shipped']) AS status;
