"""Images as bootable disks: made once for a key, kept in the store, saved from there."""
