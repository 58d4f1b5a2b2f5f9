"""The screens of machines: their pictures, the text on them, and keys to type at them."""
