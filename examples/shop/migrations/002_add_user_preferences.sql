-- Migration: 002_add_user_preferences
-- Description: Add user preferences
-- Author: Accounts Team
-- Date: 2026-01-20

CREATE TABLE IF NOT EXISTS user_preferences (
    user_id    bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name       text NOT NULL,
    value      jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, name)
);

COMMENT ON TABLE user_preferences IS 'What a user chose; what is not here is as it comes';

-- ROLLBACK: DROP TABLE user_preferences;
