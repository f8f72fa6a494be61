"""The process: limits, systemd, garbage collection, statistics. Imports no other package here."""
