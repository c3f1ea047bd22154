"""TFRecord files and tf.train.Example messages without TensorFlow: checksums are verified, nothing is executed.

Framing: https://www.tensorflow.org/tutorials/load_data/tfrecord; messages: tensorflow/core/example/example.proto and
feature.proto.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from kinema.core.errors import DataError
from kinema.data.importers._images import MOST_BYTES

_HEADER = 12
_FOOTER = 4


def _masked(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def record_offsets(path: Path) -> list[tuple[int, int]]:
    """Return (offset, length) of every record's data [bytes]; raises DataError for a truncated or damaged file."""
    found: list[tuple[int, int]] = []
    try:
        size, position = path.stat().st_size, 0
        with open(path, "rb") as file:
            while position < size:
                file.seek(position)
                header = file.read(_HEADER)
                if len(header) < _HEADER:
                    raise DataError(f"{path} is truncated: record {len(found)} has no whole header")
                length, crc = struct.unpack("<QI", header)
                if _masked(header[:8]) != crc:
                    raise DataError(f"{path}: record {len(found)} at byte {position}: its length's checksum is wrong")
                found.append((position + _HEADER, length))
                position += _HEADER + length + _FOOTER
                if position > size or length > MOST_BYTES:
                    raise DataError(f"{path} is truncated: record {len(found) - 1} ends {position - size} bytes late")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from error
    return found


def read_record(path: Path, offset: int, length: int) -> bytes:
    """Return the data of one record after its checksum is verified."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            data, footer = file.read(length), file.read(_FOOTER)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if len(data) != length or len(footer) != _FOOTER or _masked(data) != struct.unpack("<I", footer)[0]:
        raise DataError(f"{path}: the record at byte {offset} is damaged: its checksum is wrong")
    return data


def parse_example(data: bytes, where: str) -> dict[str, np.ndarray | list[bytes]]:
    """Return the features of a tf.train.Example: float32 or int64 arrays, or lists of bytes."""
    example = _example_class()()
    try:
        example.ParseFromString(data)
    except DecodeError as error:
        raise DataError(f"{where} is not a tf.train.Example: {error}") from error
    return {name: _value(feature) for name, feature in example.features.feature.items()}


def _value(feature: Any) -> np.ndarray | list[bytes]:
    kind = feature.WhichOneof("kind")
    if kind == "bytes_list":
        return list(feature.bytes_list.value)
    if kind == "float_list":
        return np.array(feature.float_list.value, np.float32)
    return np.array(feature.int64_list.value, np.int64)


@functools.cache
def _example_class() -> Any:
    """Return the message class of tf.train.Example, from a description in a pool of its own."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="kinema_example", syntax="proto3")

    def message(name: str, fields: Mapping[str, tuple[int, bool]], types: Mapping[str, str]) -> Any:
        added = file.message_type.add(name=name)
        for number, (key, (kind, repeated)) in enumerate(fields.items(), 1):
            label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            added.field.add(name=key, number=number, type=kind, label=label)
            if key in types:
                added.field[-1].type_name = f".kinema_example.{types[key]}"
        return added

    message("BytesList", {"value": (field.TYPE_BYTES, True)}, {})
    message("FloatList", {"value": (field.TYPE_FLOAT, True)}, {})
    message("Int64List", {"value": (field.TYPE_INT64, True)}, {})
    lists = {"bytes_list": "BytesList", "float_list": "FloatList", "int64_list": "Int64List"}
    one = message("Feature", dict.fromkeys(lists, (field.TYPE_MESSAGE, False)), lists)
    one.oneof_decl.add(name="kind")
    for member in one.field:
        member.oneof_index = 0
    features = message("Features", {"feature": (field.TYPE_MESSAGE, True)}, {"feature": "Features.FeatureEntry"})
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    value = entry.field.add(name="value", number=2, type=field.TYPE_MESSAGE, label=field.LABEL_OPTIONAL)
    value.type_name = ".kinema_example.Feature"
    message("Example", {"features": (field.TYPE_MESSAGE, False)}, {"features": "Features"})
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("kinema_example.Example"))
