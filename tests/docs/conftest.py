"""Suites in folders here are typed by tests, as a reader of the documentation types them."""

collect_ignore = ["edit_and_run", "output", "production", "scopes"]
