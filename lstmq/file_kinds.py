"""Says what a file is that is not what was expected, judging by its first bytes."""

from pathlib import Path

START = 512  # bytes that are enough to tell
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
UNPACK = "unpack it first"
KINDS = (
    # offset, bytes, and what begins with them
    (0, b"\x1f\x8b", f"a gzip file: {UNPACK}"),
    (0, b"BZh", f"a bzip2 file: {UNPACK}"),
    (0, b"\xfd7zXZ\x00", f"an xz file: {UNPACK}"),
    (0, b"\x28\xb5\x2f\xfd", f"a Zstandard file: {UNPACK}"),
    (0, b"7z\xbc\xaf\x27\x1c", f"a 7z archive: {UNPACK}"),
    (0, b"Rar!\x1a\x07", f"a RAR archive: {UNPACK}"),
    (257, b"ustar", f"a tar archive: {UNPACK}"),
    (0, b"PK\x03\x04", f"a zip archive: {UNPACK}"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, such as Keras writes"),
    (0, b"GGUF", "a GGUF model"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x7fELF", "a program or library"),
    (0, b"MZ", "a program or library"),
    (0, b"SQLite format 3", "an SQLite database"),
    (0, b"\xff\xfe", "text in UTF-16: save it as UTF-8"),
    (0, b"\xfe\xff", "text in UTF-16: save it as UTF-8"),
)
TEXTS = (
    (LFS_POINTER, "a Git LFS pointer, which stands for the file: run `git lfs pull` to get the file itself"),
    (b"<!doctype html", "an HTML page, perhaps an error or a login: download the file itself"),
    (b"<html", "an HTML page, perhaps an error or a login: download the file itself"),
    (b"<", "an XML or HTML document, perhaps an error of a server: download the file itself"),
    (b"{", "a JSON document: pass the file with the weights"),
    (b"[", "a JSON document: pass the file with the weights"),
)


def read_start(path: str | Path) -> bytes:
    """Return the first bytes of a file, enough to tell what it is."""
    with Path(path).open("rb") as file:
        return file.read(START)


def describe_binary(start: bytes, step: str = "") -> str:
    """Return what a file that starts with these bytes is, and the next step; empty if it is of no known binary kind.

    Args:
        start: from :func:`read_start`.
        step: the next step for kinds that have none of their own.

    Example:
        >>> from lstmq.file_kinds import describe_binary
        >>> describe_binary(bytes.fromhex("1f8b0800"))
        'a gzip file: unpack it first'
    """
    for offset, magic, kind in KINDS:
        if start.startswith(magic, offset):
            return kind if ": " in kind or not step else f"{kind}: {step}"
    # ONNX has no magic bytes. The first field is the version of the format, and the second a text or the graph.
    is_onnx = len(start) > 3 and start[0] == 8 and 0 < start[1] < 32 and start[2] in (0x12, 0x1A, 0x22, 0x3A)
    return "an ONNX model, by its first bytes: name it .onnx if `lstmq export` wrote it" if is_onnx else ""


def describe_text(start: bytes) -> str:
    """Return what a text file that starts with these bytes is, and the next step; empty if the bytes are no text.

    Example:
        >>> from lstmq.file_kinds import describe_text
        >>> describe_text(b"404 Not Found")
        'text'
    """
    if not start:
        return ""
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # not a character that was cut
            return ""
    if any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in start):
        return ""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((kind for beginning, kind in TEXTS if text.startswith(beginning)), "text")
