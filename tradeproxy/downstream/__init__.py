"""The downstream side: admission, handshake, session, feed and encoding for each client."""
