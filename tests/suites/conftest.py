"""Suites that are run in other processes, apart from this repository's own tests."""

collect_ignore = ["product", "crowded_host"]
