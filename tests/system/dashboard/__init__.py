"""The dashboard in a browser: `make dashboard`."""
