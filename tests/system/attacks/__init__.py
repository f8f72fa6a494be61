"""`make attacks`: hostile clients, a hostile Alpaca and a hostile Redis against a real proxy.

Each module has one class of attacks and lists them in `ATTACKS`. `target.py` runs the proxy and
measures what an attack does to it, and `__main__.py` prints a line for each.
"""
