"""What clients ask for in a URL: the queries of streams and of pages, as values.

Pure: no Twisted, clock or environment.
"""
