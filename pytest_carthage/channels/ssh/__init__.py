"""The way into a machine by ssh: one connection that is kept, and what is carried over it."""
