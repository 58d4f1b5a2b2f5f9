"""Images of a layout locked, packed and unpacked."""
