"""The HTTP site: stream endpoints, health, metrics, dashboard and REST proxy on one port."""
