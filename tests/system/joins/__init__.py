"""Clients that join a burst with the state of the account: snapshot plus events are the whole."""
