"""The package mirror of a layout: what its sealed machines may install, served to them."""
