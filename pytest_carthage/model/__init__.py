"""What an author declares: frozen values, no I/O, nothing heavy imported."""
