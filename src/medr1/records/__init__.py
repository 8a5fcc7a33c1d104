"""Records on disk: JSON, JSON lines, parquet folders of samples, and the run manifest."""

from medr1.records.hashes import (
    DataHash,
    content_hashes,
    file_hash,
    file_hashes,
    files_hash,
    image_hash,
    labels_hash,
)
from medr1.records.json_files import (
    JsonlAppender,
    as_json,
    checked,
    parse_jsonl,
    read_json,
    read_jsonl,
    read_record,
    write_json,
)
from medr1.records.manifest import (
    Manifest,
    check_finished,
    data_hash,
    is_manifest,
    manifest,
    sample_hash,
    sample_id,
    short_hash,
)
from medr1.records.samples import read_samples, write_samples, write_shards

__all__ = [
    "DataHash",
    "JsonlAppender",
    "Manifest",
    "as_json",
    "check_finished",
    "checked",
    "content_hashes",
    "data_hash",
    "file_hash",
    "file_hashes",
    "files_hash",
    "image_hash",
    "is_manifest",
    "labels_hash",
    "manifest",
    "parse_jsonl",
    "read_json",
    "read_jsonl",
    "read_record",
    "read_samples",
    "sample_hash",
    "sample_id",
    "short_hash",
    "write_json",
    "write_samples",
    "write_shards",
]
