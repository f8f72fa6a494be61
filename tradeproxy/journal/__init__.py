"""The durable, ordered log of one account: its interface, and the one in an SQLite file."""
