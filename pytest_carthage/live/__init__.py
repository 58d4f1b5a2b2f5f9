"""The living layout."""
