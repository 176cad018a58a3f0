"""Takes the pictures out of compiled Qt resource files: qt_pictures.py FOLDER OUT"""

import struct
import sys
import zlib
from pathlib import Path

SMALLEST = 8000
ZLIB, DIRECTORY = 1, 2


def kind(data):
    if data[:3] == b"\xff\xd8\xff":
        return "jpg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return "png" if data[:8] == b"\x89PNG\r\n\x1a\n" else None


def files(resource):
    """(name, bytes) of each file: a tree of nodes, the data and the names lie apart."""
    version, tree, data, names = struct.unpack(">4I", resource[4:20])
    node_size = 14 if version < 2 else 22

    def walk(node):
        at = tree + node * node_size
        name_at, flags = struct.unpack(">IH", resource[at : at + 6])
        if flags & DIRECTORY:
            count, first = struct.unpack(">II", resource[at + 6 : at + 14])
            for child in range(first, first + count):
                yield from walk(child)
            return
        start = data + struct.unpack(">I", resource[at + 10 : at + 14])[0]
        size = struct.unpack(">I", resource[start : start + 4])[0]
        content = resource[start + 4 : start + 4 + size]
        length = struct.unpack(">H", resource[names + name_at : names + name_at + 2])[0]
        text = resource[names + name_at + 6 : names + name_at + 6 + 2 * length]
        yield text.decode("utf-16-be"), zlib.decompress(content[4:]) if flags & ZLIB else content

    return walk(0)


def main():
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    number = 0
    for path in sorted(folder.rglob("*.rcc")):
        for name, content in files(path.read_bytes()):
            extension = kind(content)
            if extension and len(content) > SMALLEST:
                (out / f"{path.stem}-{number:04}-{Path(name).stem}.{extension}").write_bytes(content)
                number += 1
    print(f"{number} pictures in {out}")


if __name__ == "__main__":
    main()
