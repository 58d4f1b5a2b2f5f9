"""Images in the forms that others take: archives, tarballs, disks."""
