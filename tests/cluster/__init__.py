"""A cluster under attack: three nodes, one Redis, a seeded nemesis; and the cluster's unit tests."""
