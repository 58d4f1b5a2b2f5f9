"""Ansible: its programs, inventories, playbooks."""
