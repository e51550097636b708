"""Kafka's record batches (message format 2), cut out of a fetch and kept as the bytes they are.

https://kafka.apache.org/documentation/#recordbatch says what lies where.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from aiokafka.record.util import calc_crc32c

# Base offset, length, leader epoch, magic, CRC, attributes, last offset delta, base timestamp,
# max timestamp, producer id, producer epoch, base sequence, number of records.
_HEAD = struct.Struct(">qiibIhiqqqhii")
_BEFORE_LENGTH_COUNTS = 12
_CRC_COVERS_FROM = 21

_CODEC, _LOG_APPEND, _TRANSACTIONAL, _CONTROL = 0x07, 0x08, 0x10, 0x20
_CODECS: dict[int, Callable[[bytes], bytes]] = {
    0: bytes,
    1: gzip_decode,
    2: snappy_decode,
    3: lz4_decode,
    4: zstd_decode,
}
_ABORT_MARKER = 0

Headers = tuple[tuple[str, bytes | None], ...]


class CorruptBatchError(Exception):
    """The bytes are no record batch. A broker checks what it takes in, so they were damaged since;
    the text names the offset."""


class Record(NamedTuple):
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class RecordBatch:
    start: int
    """The consumer's position before this batch: above `first` where a fetch began inside of it,
    below where Kafka left offsets out."""
    first: int
    last: int
    """`last + 1` is the position after this batch, even if compaction removed that record."""
    count: int
    """0: nothing to read (a transaction marker, what an aborted transaction or compaction left),
    yet the position goes on."""
    timestamp_ms: int
    max_timestamp_ms: int
    log_append: bool
    """The broker's clock stands for that of the producer: `max_timestamp_ms` is every record's."""
    codec: int
    body: bytes
    """The records as fetched: compressed by `codec`."""

    def records_bytes(self) -> bytes:
        if not self.count:
            return b""
        try:
            return _CODECS[self.codec](self.body)
        except KeyError:
            raise CorruptBatchError(
                f"the batch at {self.first} has the unknown codec {self.codec}"
            ) from None
        except Exception as error:  # each codec has errors of its own kind
            raise CorruptBatchError(
                f"the batch at {self.first} does not decompress: {error}"
            ) from error

    def records(self) -> Iterator[Record]:
        """One by one, which costs many times what a batch as columns costs."""
        data, at = self.records_bytes(), 0
        for index in range(self.count):
            try:
                record, at = self._record(data, at, index)
            except (IndexError, ValueError) as error:
                raise CorruptBatchError(
                    f"the batch at {self.first} breaks at its byte {at}: {error}"
                ) from error
            yield record
        if at != len(data):
            raise CorruptBatchError(
                f"the batch at {self.first} has {len(data) - at} bytes after its last record"
            )

    def _record(self, data: bytes, at: int, index: int) -> tuple[Record, int]:
        length, at = varint(data, at)
        end = at + length
        if length < 0 or end > len(data):
            raise ValueError(f"a record of {length} bytes does not fit")
        at += 1  # a record's attributes: unused by Kafka
        timestamp_delta, at = varint(data, at)
        offset_delta, at = varint(data, at)
        key, at = _nullable_bytes(data, at, end)
        value, at = _nullable_bytes(data, at, end)
        header_count, at = varint(data, at)
        headers = []
        for _ in range(header_count):
            name, at = _nullable_bytes(data, at, end)
            header, at = _nullable_bytes(data, at, end)
            # Another client may have written a name that is no UTF-8; it has to go on all the same.
            headers.append(((name or b"").decode("utf-8", "surrogateescape"), header))
        if at != end or header_count < 0:
            raise ValueError(f"a record of {length} bytes does not end where it says")
        if self.count == self.last - self.first + 1:
            offset_delta = index  # none is left out, so that no producer's word is needed
        elif not 0 <= offset_delta <= self.last - self.first:
            raise ValueError(f"a record is {offset_delta} offsets after the first")
        timestamp = (
            self.max_timestamp_ms
            if self.log_append
            else _in_64_bits(self.timestamp_ms + timestamp_delta)
        )
        return Record(self.first + offset_delta, timestamp, key, value, tuple(headers)), end


def _in_64_bits(number: int) -> int:
    """As it overflows in every language but this one."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Zigzag, as Kafka and Avro write it; at most 64 bits."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                raise ValueError("a number has more than 64 bits")
            return (value >> 1) ^ -(value & 1), at
        shift += 7
        if shift > 63:
            raise ValueError("a number has more than ten bytes")


def _nullable_bytes(data: bytes, at: int, end: int) -> tuple[bytes | None, int]:
    length, at = varint(data, at)
    if length == -1:
        return None, at
    if length < 0 or at + length > end:
        raise ValueError(f"a text of {length} bytes does not fit into its record")
    return data[at : at + length], at + length


def split(
    data: bytes,
    position: int,
    *,
    aborted: Sequence[tuple[int, int]] = (),
    check_crc: bool = False,
) -> Iterator[RecordBatch]:
    """The batches of one partition's part of a fetch response, in order.

    Transaction markers and the batches of aborted transactions come with a count of 0. `aborted`
    are pairs of producer id and first offset, as the response has them when the consumer reads
    what is committed. A batch that the response cut off is left for the next fetch: nothing at all
    comes out when even the first one is.
    """
    waiting = sorted(aborted, key=lambda pair: pair[1])
    aborting: set[int] = set()
    at = 0
    while at + _HEAD.size <= len(data):
        fields = _HEAD.unpack_from(data, at)
        first, length, _, magic, crc, attributes, last_delta, *rest = fields
        timestamp_ms, max_timestamp_ms, producer, _, _, count = rest
        end = at + _BEFORE_LENGTH_COUNTS + length
        if magic != 2:
            raise CorruptBatchError(f"the batch at {first} has message format {magic}, not 2")
        if end < at + _HEAD.size or last_delta < 0 or not 0 <= count <= last_delta + 1:
            raise CorruptBatchError(
                f"the batch at {first} says {length} bytes, {count} records, last one {last_delta}"
            )
        if end > len(data):
            return
        if check_crc and calc_crc32c(data[at + _CRC_COVERS_FROM : end]) != crc:
            raise CorruptBatchError(f"the batch at {first} does not have the checksum it says")
        body = data[at + _HEAD.size : end]
        while waiting and waiting[0][1] <= first:
            aborting.add(waiting.pop(0)[0])
        if attributes & _CONTROL and _marker(body) == _ABORT_MARKER:
            aborting.discard(producer)
        if attributes & _CONTROL or (attributes & _TRANSACTIONAL and producer in aborting):
            count, body = 0, b""
        last = first + last_delta
        if last >= position:
            yield RecordBatch(
                start=position,
                first=first,
                last=last,
                count=count,
                timestamp_ms=timestamp_ms,
                max_timestamp_ms=max_timestamp_ms,
                log_append=bool(attributes & _LOG_APPEND),
                codec=attributes & _CODEC,
                body=body,
            )
            position = last + 1
        at = end


def _marker(body: bytes) -> int | None:
    """What a control batch says, in the key of its only record: version, then type."""
    try:
        at = 1 + varint(body, 0)[1]
        for _ in range(2):
            _, at = varint(body, at)
        key, _ = _nullable_bytes(body, at, len(body))
    except (IndexError, ValueError):
        return None
    return int.from_bytes(key[2:4], "big") if key is not None and len(key) >= 4 else None
