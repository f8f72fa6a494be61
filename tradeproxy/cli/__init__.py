"""The commands beside the service: check, tail and export."""
