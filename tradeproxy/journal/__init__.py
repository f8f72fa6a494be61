"""The durable, ordered log of one account: its interface, and the implementation on SQLite."""
