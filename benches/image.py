#!/usr/bin/env python3
"""Makes the images of the benchmark and lays them down as the storage of a registry.

usage: image.py STORAGE ROOTFS BUSYBOX PAUSE

Two images, `bench:latest` (busybox, `true` and a program that heeds SIGTERM, in one layer) and `pause:latest`
(that program alone), in the storage format of Debian's docker-registry, so that both sides pull the same
bytes. ROOTFS becomes the unpacked layer of the first, for the kernel's floor.
"""

import gzip
import hashlib
import io
import json
import pathlib
import sys
import tarfile

OCI = "application/vnd.oci.image."


def layer(files, links=(), folders=()):
    """A tar of plain files (name → bytes, executable), symbolic links and folders."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in folders:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            tar.addfile(entry, io.BytesIO(data))
        for name, target in links:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return out.getvalue()


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
        return name, {"digest": f"sha256:{name}", "size": len(data)}

    def add(self, repository, tar, config):
        """An image of one gzip layer, tagged `latest`."""
        home = self.root / "repositories" / repository
        diff_id = "sha256:" + hashlib.sha256(tar).hexdigest()
        parts = {}
        for part, data, kind in (
            ("layer", gzip.compress(tar, 6, mtime=0), "layer.v1.tar+gzip"),
            ("config", json.dumps(
                {"architecture": "amd64", "os": "linux", "config": config,
                 "rootfs": {"type": "layers", "diff_ids": [diff_id]}}).encode(), "config.v1+json"),
        ):
            name, descriptor = self._blob(data)
            parts[part] = {"mediaType": OCI + kind, **descriptor}
            self._link(home / "_layers/sha256" / name, descriptor["digest"])
        manifest = json.dumps(
            {"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json",
             "config": parts["config"], "layers": [parts["layer"]]}).encode()
        name, descriptor = self._blob(manifest)
        manifests = home / "_manifests"
        self._link(manifests / "revisions/sha256" / name, descriptor["digest"])
        self._link(manifests / "tags/latest/current", descriptor["digest"])
        self._link(manifests / "tags/latest/index/sha256" / name, descriptor["digest"])


def main():
    storage, rootfs, busybox, pause = sys.argv[1:]
    busybox = pathlib.Path(busybox).read_bytes()
    pause = pathlib.Path(pause).read_bytes()
    registry = Registry(storage)
    bench = layer(
        {"bin/busybox": busybox, "pause": pause, "heed": pause},
        links=[(f"bin/{name}", "busybox") for name in ("sh", "true", "sleep", "cat")],
        folders=("bin", "dev", "etc", "proc", "sys", "tmp"),
    )
    registry.add("bench", bench, {"Env": ["PATH=/bin"], "Cmd": ["/heed"]})
    registry.add("pause", layer({"pause": pause}), {"Entrypoint": ["/pause"]})
    with tarfile.open(fileobj=io.BytesIO(bench)) as tar:
        tar.extractall(rootfs)


if __name__ == "__main__":
    main()
