"""Toward the clients: who may come in, what they say, what they are sent."""
