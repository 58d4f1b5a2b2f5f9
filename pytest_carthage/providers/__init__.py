"""The built-in targets. They never import each other."""
