"""Images: made of layers, once for each content key, and used everywhere."""
