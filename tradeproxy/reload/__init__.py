"""A reload: settings that change while the proxy runs."""
