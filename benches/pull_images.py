#!/usr/bin/env python3
"""Makes the images that are pulled for their own sake and lays them down as the storage of a registry.

usage: pull_images.py STORAGE SIZES

- `small`: one layer of 5 MB, gzip
- `large-gzip`, `large-zstd`: the same ten layers of 30 MB each, in both forms
- `many:0` … `many:499`: one small layer, and a configuration each

The layers hold files of the Debian packages that are installed here, package after package by name. SIZES
becomes a table: image, bytes that its files take on a file system with blocks of 4 KiB.
"""

import io
import os
import pathlib
import subprocess
import sys
import tarfile

from registry import Registry, digest

MB = 1_000_000
BLOCK = 4096
#: Larger ones would be a layer of their own, and tell little of unpacking.
LARGEST_FILE = 8 * MB
MANY = 500


def installed_files():
    """The paths of all packages' files, folders and links."""
    ask = lambda *command: subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    packages = sorted(set(ask("dpkg-query", "-W", "-f", "${Package}\n")))
    return (line for line in ask("dpkg-query", "-L", *packages) if line.startswith("/usr/"))


class Layer:
    """A tar in the making."""

    def __init__(self):
        self.out = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.out, mode="w", format=tarfile.PAX_FORMAT)
        self.known = set()
        self.blocks = 0

    def add(self, path):
        """A file, folder or link of the host with the folders above it; files that are not there are passed over."""
        for folder in reversed(pathlib.PurePath(path).parents):
            self._entry(str(folder))
        self._entry(path)

    def _entry(self, path):
        if path == "/" or path in self.known or not os.path.lexists(path):
            return
        self.known.add(path)
        entry = self.tar.gettarinfo(path, arcname=path.lstrip("/"))
        # Links between names of one file become files: which comes first is the host's affair.
        if entry is None or not (entry.isdir() or entry.issym() or entry.isreg() or entry.islnk()):
            return
        if not (entry.isreg() or entry.islnk()):
            self.tar.addfile(entry)
            return
        size = os.path.getsize(path)
        if size > LARGEST_FILE:
            return
        entry.type, entry.linkname, entry.size = tarfile.REGTYPE, "", size
        with open(path, "rb") as file:
            self.tar.addfile(entry, file)
        self.blocks += -(-size // BLOCK) * BLOCK

    def size(self):
        return self.out.tell()

    def finish(self):
        self.tar.close()
        return self.out.getvalue()


def packed(tar, form):
    """The tar as a layer of an image, compressed as image builders do."""
    # By another process: neither a time nor a name of this one gets into it.
    command = ["gzip", "-6", "-n"] if form == "gzip" else ["zstd", "-3", "-q"]
    blob = subprocess.run(command, input=tar, check=True, capture_output=True).stdout
    return (digest(tar), blob, form)


def main():
    storage, sizes = sys.argv[1:]
    registry = Registry(storage)
    files = installed_files()

    def next_layer(least):
        layer = Layer()
        for path in files:
            layer.add(path)
            if layer.size() >= least:
                return layer.finish(), layer.blocks
        raise SystemExit("pull_images.py: too few packages are installed here")

    table = {}
    tar, table["small"] = next_layer(5 * MB)
    registry.add("small", [packed(tar, "gzip")], {})
    tars, table["large-gzip"] = [], 0
    for _ in range(10):
        tar, blocks = next_layer(30 * MB)
        tars.append(tar)
        table["large-gzip"] += blocks
    table["large-zstd"] = table["large-gzip"]
    for form in ("gzip", "zstd"):
        registry.add(f"large-{form}", [packed(tar, form) for tar in tars], {})
    layer = Layer()
    layer.add("/usr/bin/env")
    one = packed(layer.finish(), "gzip")
    for number in range(MANY):
        registry.add("many", [one], {"Labels": {"number": str(number)}}, tag=str(number))
    pathlib.Path(sizes).write_text("".join(f"{name}\t{blocks}\n" for name, blocks in table.items()))


if __name__ == "__main__":
    main()
