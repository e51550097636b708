"""Content encodings: what clients name in Accept-Encoding and Content-Encoding."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import lz4.frame
import zstandard

from sinks.embedded.errors import ClickHouseError, Code

# The order is ours when a client accepts several: the cheapest for the processor first.
OFFERED = ("lz4", "zstd", "gzip", "deflate")


class Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class Decompressor(Protocol):
    def decompress(self, data: bytes, /) -> bytes: ...


class _Identity:
    def compress(self, data: bytes) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


class _Lz4(_Identity):
    def __init__(self) -> None:
        self._frame = lz4.frame.LZ4FrameCompressor()
        self._begun = False

    def compress(self, data: bytes) -> bytes:
        begin = b"" if self._begun else self._begin()
        return begin + bytes(self._frame.compress(data))

    def flush(self) -> bytes:
        begin = b"" if self._begun else self._begin()
        return begin + bytes(self._frame.flush())

    def _begin(self) -> bytes:
        self._begun = True
        return bytes(self._frame.begin())


def chosen(accepted: str) -> str | None:
    """The encoding for an Accept-Encoding header; None: as it is."""
    names = {
        name.strip().lower()
        for name, _, weight in (part.partition(";") for part in accepted.split(","))
        if weight.replace(" ", "") not in ("q=0", "q=0.0")
    }
    return next((name for name in OFFERED if name in names), None)


def compressor(encoding: str | None, level: int = 3) -> Compressor:
    if encoding == "gzip":
        return zlib.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    if encoding == "deflate":
        return zlib.compressobj(level)
    if encoding == "zstd":
        return zstandard.ZstdCompressor(level=level).compressobj()
    if encoding == "lz4":
        return _Lz4()
    return _Identity()


_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(zlib.MAX_WBITS | 16),
    "deflate": zlib.decompressobj,
    "zstd": lambda: zstandard.ZstdDecompressor().decompressobj(),
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "xz": lzma.LZMADecompressor,
    "bz2": bz2.BZ2Decompressor,
}
# zlib and zstd take no limit that keeps the rest: a slice of theirs grows to 2 and 64 MB at most.
_SLICE_BYTES = 2048
_LIMITED = frozenset({"lz4", "xz", "bz2"})
_PIECE_BYTES = 1 << 20
_DAMAGED = (zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, RuntimeError, EOFError)


class Inflater:
    """Undoes a Content-Encoding as the body arrives; a body may hold several frames."""

    def __init__(self, encoding: str) -> None:
        name = encoding.strip().lower()
        self._make = _DECOMPRESSORS.get(name)
        if self._make is None and name not in ("", "identity"):
            raise ClickHouseError(
                Code.UNKNOWN_COMPRESSION_METHOD,
                f"Unknown compression method: {name}; known are {', '.join(_DECOMPRESSORS)}.",
            )
        self._name = name
        self._frame: Any = self._make() if self._make else None
        self._started = False

    def inflate(self, data: bytes) -> Iterator[bytes]:
        """In pieces: a few bytes may stand for gigabytes, which must not be held at once."""
        if self._make is None:
            yield data
            return
        try:
            for start in range(0, len(data), _SLICE_BYTES):
                yield from self._inflated(data[start : start + _SLICE_BYTES])
        except _DAMAGED as error:
            raise ClickHouseError(
                Code.CANNOT_DECOMPRESS, f"The body is not {self._name}: {error}."
            ) from error

    def _inflated(self, data: bytes) -> Iterator[bytes]:
        assert self._make is not None
        limit = (_PIECE_BYTES,) if self._name in _LIMITED else ()
        while data:
            if self._frame.eof:
                self._frame = self._make()
            self._started = True
            yield self._frame.decompress(data, *limit)
            while limit and not self._frame.eof and not self._frame.needs_input:
                yield self._frame.decompress(b"", *limit)
            data = self._frame.unused_data if self._frame.eof else b""

    def finish(self) -> None:
        if self._started and not self._frame.eof:
            raise ClickHouseError(
                Code.CANNOT_DECOMPRESS, f"The body ends inside a frame of {self._name}."
            )
