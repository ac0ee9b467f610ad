#!/usr/bin/env python3
"""Makes the images of the pods and lays them down as the storage of a registry.

usage: pod_images.py STORAGE ROOTFS BUSYBOX PAUSE

Two images, `bench:latest` (busybox, `true` and a program that heeds SIGTERM, in one layer) and `pause:latest`
(that program alone). ROOTFS becomes the unpacked layer of the first, for the kernel's floor.
"""

import gzip
import io
import pathlib
import sys
import tarfile

from registry import Registry, digest


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


def packed(tar):
    """The tar as a layer of an image."""
    return (digest(tar), gzip.compress(tar, 6, mtime=0), "gzip")


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
    registry.add("bench", [packed(bench)], {"Env": ["PATH=/bin"], "Cmd": ["/heed"]})
    registry.add("pause", [packed(layer({"pause": pause}))], {"Entrypoint": ["/pause"]})
    with tarfile.open(fileobj=io.BytesIO(bench)) as tar:
        tar.extractall(rootfs)


if __name__ == "__main__":
    main()
