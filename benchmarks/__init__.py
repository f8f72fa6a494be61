"""What the proxy takes, beside other servers that do the same job; see README.md."""
