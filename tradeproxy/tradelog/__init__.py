"""The trade log: each trade date's events in a file that is kept for longer than the journal."""
