"""The short forms of what has a target of its own: minutes beside the suite."""
