"""The process and its runtime: limits, systemd, garbage collection, statistics. Imports no other room."""
