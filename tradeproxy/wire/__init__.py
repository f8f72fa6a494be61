"""Wire formats: frames, cursors and close codes as values.

Pure: no Twisted, clock or environment.
"""
