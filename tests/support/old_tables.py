"""Tables as an application's own migrations leave them."""

from __future__ import annotations

TABLE = """
    CREATE TABLE context_items (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), title text, content text NOT NULL,
        metadata jsonb NOT NULL DEFAULT '{}', created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now())
"""
