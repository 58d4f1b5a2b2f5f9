"""A module that exists for its action, which runs where Ansible does."""
