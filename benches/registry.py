"""The storage of a registry, laid down as files.

In the format of Debian's docker-registry, so that everybody who is measured pulls the same bytes.
"""

import hashlib
import json
import pathlib

OCI = "application/vnd.oci.image."


class Registry:
    """The storage folder of a registry."""

    def __init__(self, storage):
        self.root = pathlib.Path(storage) / "docker/registry/v2"

    def _link(self, folder, digest):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "link").write_text(digest)

    def _blob(self, data):
        name = hashlib.sha256(data).hexdigest()
        folder = self.root / "blobs/sha256" / name[:2] / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "data").write_bytes(data)
        return {"digest": f"sha256:{name}", "size": len(data)}

    def add(self, repository, layers, config, tag="latest"):
        """An image of layers: (the archive's digest, compressed archive, `gzip` or `zstd`) each."""
        home = self.root / "repositories" / repository

        def part(data, kind):
            descriptor = self._blob(data)
            name = descriptor["digest"].removeprefix("sha256:")
            self._link(home / "_layers/sha256" / name, descriptor["digest"])
            return {"mediaType": OCI + kind, **descriptor}

        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [diff_id for diff_id, _, _ in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI + "manifest.v1+json",
            "config": part(json.dumps(config).encode(), "config.v1+json"),
            "layers": [part(blob, f"layer.v1.tar+{form}") for _, blob, form in layers],
        }
        digest = self._blob(json.dumps(manifest).encode())["digest"]
        name = digest.removeprefix("sha256:")
        manifests = home / "_manifests"
        self._link(manifests / "revisions/sha256" / name, digest)
        self._link(manifests / "tags" / tag / "current", digest)
        self._link(manifests / "tags" / tag / "index/sha256" / name, digest)


def digest(data):
    """A digest as images have it."""
    return "sha256:" + hashlib.sha256(data).hexdigest()
