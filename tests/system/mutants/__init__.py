"""Mutation testing: a room's tests must fail if a line of the room is changed."""
