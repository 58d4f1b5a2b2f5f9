"""Files of a machine by the protocol of sftp(1), where the machine has no sftp-server."""
