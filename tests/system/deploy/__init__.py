"""deploy/, held against the programs that it is for: `make deploy`, which skips what is not installed."""
