"""TensorBoard's event files as bytes, without TensorFlow or torch.

A file is a row of records (TensorFlow's `record_writer.h`): length as uint64, its masked CRC-32C, the data, its masked
CRC-32C, all little-endian. Each holds one `Event` (`event.proto`, `summary.proto`) in protobuf's encoding.

tensorboardX writes the same, but imports torch wherever that is installed, and its writing thread ends at the first
error: on a full disk, training would wait for it for ever.
"""

import struct
from collections.abc import Mapping

import numpy as np


def file_start(time: float, purge_step: int) -> bytes:
    """The first records of a file: its version, and that training starts.

    Args:
        time: seconds since 1970.
        purge_step: of what earlier files of the folder say, this step and later ones are dropped by the reader.
    """
    version = _event(time, 0, _text(3, b"brain.Event:2"))
    return version + _event(time, purge_step, _text(7, _whole(1, 1)))


def scalars(time: float, step: int, values: Mapping[str, float]) -> bytes:
    """A record of named values, which float32 holds."""
    return _event(time, step, _summary({name: _float(2, value) for name, value in values.items()}))


def picture(time: float, step: int, name: str, png: bytes) -> bytes:
    """A record of a picture in colour, as its PNG file has it."""
    width, height = struct.unpack(">II", png[16:24])
    image = _whole(1, height) + _whole(2, width) + _whole(3, 3) + _text(4, png)
    return _event(time, step, _summary({name: _text(4, image)}))


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli; RFC 3720, B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _table_entry(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value


_TABLE = [_table_entry(byte) for byte in range(256)]


def _event(time: float, step: int, what: bytes) -> bytes:
    """The record of an `Event`; `what` is its encoded field."""
    data = struct.pack("<Bd", 1 << 3 | 1, time) + _whole(2, step) + what
    length = struct.pack("<Q", len(data))
    return length + _masked(length) + data + _masked(data)


def _masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _summary(values: Mapping[str, bytes]) -> bytes:
    return _text(5, b"".join(_text(1, _text(1, name.encode()) + value) for name, value in values.items()))


# Protobuf's fields: number and kind, then the value.
def _whole(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _float(field: int, value: float) -> bytes:
    # Too large a number becomes infinite, as it does in NumPy.
    with np.errstate(over="ignore"):
        return _varint(field << 3 | 5) + np.float64(value).astype("<f4").tobytes()


def _text(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
