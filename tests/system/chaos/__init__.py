"""Chaos: numbered events, a seeded nemesis, clients that resume, and a checker of what they got."""
