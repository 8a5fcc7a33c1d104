"""Records on disk: JSON, JSON lines, parquet folders of samples, and the run manifest."""

from medr1.records.json_files import JsonlAppender, parse_jsonl, read_json, read_jsonl, write_json
from medr1.records.manifest import data_hash, manifest, sample_hash, sample_id, short_hash
from medr1.records.samples import read_samples, staged_folder, write_samples, write_shards

__all__ = [
    "JsonlAppender",
    "data_hash",
    "manifest",
    "parse_jsonl",
    "read_json",
    "read_jsonl",
    "read_samples",
    "sample_hash",
    "sample_id",
    "short_hash",
    "staged_folder",
    "write_json",
    "write_samples",
    "write_shards",
]
