"""The short forms of what has a target of its own: a minute beside the suite."""
