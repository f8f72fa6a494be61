"""Programs for maintainers: `make versions`, `make release`."""
