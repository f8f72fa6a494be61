"""The book: what the account's events add up to."""
