"""Images as OCI images: laid out in a folder, in an archive, tagged in podman's store, pushed.

Sources: the OCI image specification (image-layout.md, manifest.md, config.md), skopeo-copy(1).
"""
