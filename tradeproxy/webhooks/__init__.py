"""Webhooks: messages about events to receivers that the operator names, at least once, in order."""
