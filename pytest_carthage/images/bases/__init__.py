"""What images begin with: one module for each kind of base."""
