"""Ways into a live machine: commands, files, sockets, testinfra, Ansible."""
