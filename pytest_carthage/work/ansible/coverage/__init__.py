"""What of Ansible's code was reached: what there is, what ran, and both together."""
