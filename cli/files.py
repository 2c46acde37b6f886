"""Manifests named on the command line: files, folders and standard input. Edge."""

import sys
from pathlib import Path

from cli.documents import Document, read
from cli.errors import CliError

SUFFIXES = (".yaml", ".yml", ".json")


def read_all(paths: list[str]) -> list[Document]:
    """Read every document of the files, of a folder's manifests (by name, not of folders in it), and of `-`.

    Raises:
        CliError: a path cannot be read, a folder has no manifests, or something is not YAML.
    """
    documents: list[Document] = []
    for path in paths:
        for name, text in _texts(path):
            documents += read(name, text)
    return documents


def _texts(path: str) -> list[tuple[str, str]]:
    if path == "-":
        return [("stdin", _decode("stdin", sys.stdin.buffer.read()))]
    found = Path(path)
    if not found.is_dir():
        return [(path, _read(found))]
    files = sorted(each for each in found.iterdir() if each.suffix in SUFFIXES and each.is_file())
    if not files:
        raise CliError(f"{path}: no {', '.join(SUFFIXES)} file in this folder")
    return [(str(each), _read(each)) for each in files]


def _read(path: Path) -> str:
    try:
        return _decode(str(path), path.read_bytes())
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from error


def _decode(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CliError(f"{name}: not UTF-8 text") from error
