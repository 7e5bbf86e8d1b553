"""The demo: the whole job in minutes."""
