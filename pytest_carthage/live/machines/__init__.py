"""Live machines and their links."""
