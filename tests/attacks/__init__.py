"""Short forms of the programs in tests/system, which take minutes: all in about a minute."""
