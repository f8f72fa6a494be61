"""The files in deploy/ under the programs that use them: `make deploy`. Skips missing programs."""
