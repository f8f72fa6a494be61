"""One twisted.web site on one port: the stream endpoints and health."""
