#!/usr/bin/env python3
"""Makes an OCI image layout of one layer from a static busybox.

usage: image.py BUSYBOX FOLDER NAME
"""

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile


def layer(busybox: str) -> bytes:
    """The root file system: busybox, a link for each of its applets, a few folders and users."""
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:

        def add(name: str, mode: int, kind: bytes = tarfile.REGTYPE, data: bytes = b"", to: str = ""):
            entry = tarfile.TarInfo(name)
            entry.mode, entry.type, entry.size, entry.linkname = mode, kind, len(data), to
            tar.addfile(entry, io.BytesIO(data))

        for folder in ("bin", "etc", "root", "var"):
            add(folder, 0o755, tarfile.DIRTYPE)
        add("tmp", 0o1777, tarfile.DIRTYPE)
        add("etc/passwd", 0o644, data=b"root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/tmp:/bin/sh\n")
        add("etc/group", 0o644, data=b"root:x:0:\nweb:x:1000:\n")
        with open(busybox, "rb") as file:
            add("bin/busybox", 0o755, data=file.read())
        for applet in sorted(set(applets.stdout.split()) - {"busybox"}):
            add(f"bin/{applet}", 0o777, tarfile.SYMTYPE, to="busybox")
    return buffer.getvalue()


def main() -> None:
    """Writes blobs, index.json and oci-layout."""
    busybox, folder, name = sys.argv[1:]
    blobs = os.path.join(folder, "blobs", "sha256")
    os.makedirs(blobs)

    def blob(media_type: str, data: bytes) -> dict:
        digest = hashlib.sha256(data).hexdigest()
        with open(os.path.join(blobs, digest), "wb") as file:
            file.write(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    oci = "application/vnd.oci.image"
    tar = layer(busybox)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest()]},
        "history": [{"created_by": "busybox-static"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{oci}.manifest.v1+json",
        "config": blob(f"{oci}.config.v1+json", json.dumps(config).encode()),
        "layers": [blob(f"{oci}.layer.v1.tar+gzip", gzip.compress(tar, 6, mtime=0))],
    }
    entry = blob(f"{oci}.manifest.v1+json", json.dumps(manifest).encode())
    entry["annotations"] = {"org.opencontainers.image.ref.name": name}
    index = {"schemaVersion": 2, "manifests": [entry]}
    for file_name, value in (("index.json", index), ("oci-layout", {"imageLayoutVersion": "1.0.0"})):
        with open(os.path.join(folder, file_name), "w", encoding="utf-8") as file:
            json.dump(value, file)


if __name__ == "__main__":
    main()
