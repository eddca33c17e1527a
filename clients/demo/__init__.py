"""The demo: two small tasks that the bare base fails and adapters learn in minutes."""
