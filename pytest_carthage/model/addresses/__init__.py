"""One family's configuration and what it means."""
