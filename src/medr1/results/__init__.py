"""What commands write and reports read: frozen records, of which the JSON on disk is a view with fixed field names.

A measured number is an `Estimate` in memory. On disk its parts have names of their own, which `Written` tells, and
stand in an object or among the fields of the record; what is not written (the method of a plain share) is None when it
is read again. `medr1.results.schemas` names the files that hold a record.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from medr1.types import Estimate

R = TypeVar("R", bound="Record")
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Written:
    """How a record writes an estimate: the name of each part, None for those that are not on disk."""

    value: str
    interval: str = "ci95"
    n: str | None = None
    groups: str | None = None
    method: str | None = None
    merged: bool = False
    """Whether the parts stand among the fields of the record, not in an object under the field's own name."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the parts that are on disk."""
        return tuple(filter(None, (self.value, self.interval, self.n, self.groups, self.method)))

    def read(self, parts: Mapping[str, Any]) -> Estimate:
        """The estimate of these parts."""
        missing = [key for key in self.keys if key not in parts]
        unknown = [key for key in parts if key not in self.keys]
        if missing or unknown:
            raise ValueError(f"{missing[0]} is missing" if missing else f"{unknown[0]} is not known here")
        value, interval = parts[self.value], parts[self.interval]
        numbers = [value, *interval] if isinstance(interval, (list, tuple)) else []
        if len(numbers) != 3 or not all(isinstance(number, (int, float)) for number in numbers):
            raise ValueError(f"{self.value} and {self.interval} should be a number and its two limits")
        told = {name: parts.get(getattr(self, name) or "") for name in ("n", "groups", "method")}
        return Estimate(value=value, low=interval[0], high=interval[1], **told)

    def write(self, estimate: Estimate | None) -> JsonSchemaValue:
        """The parts of an estimate by their names; where there is none, value and interval are None."""
        if estimate is None:
            return dict.fromkeys((self.value, self.interval))
        every = {
            self.value: estimate.value,
            self.interval: [estimate.low, estimate.high],
            self.n: estimate.n,
            self.groups: estimate.groups,
            self.method: estimate.method,
        }
        return {name: part for name, part in every.items() if name is not None}

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        nullable = type(None) in get_args(source)

        def read(found: object) -> Estimate | None:
            if isinstance(found, Estimate):
                return found
            if isinstance(found, Mapping) and not (nullable and self.merged and found.get(self.value) is None):
                return self.read(found)
            if nullable:
                return None
            raise ValueError(f"it should be an object with {' and '.join(self.keys)}")

        def write(estimate: Estimate | None) -> JsonSchemaValue | None:
            return None if estimate is None and not self.merged else self.write(estimate)

        writing = core_schema.plain_serializer_function_ser_schema(write)
        return core_schema.no_info_plain_validator_function(
            read, serialization=writing, metadata={"pydantic_js_functions": [lambda _, __: self.schema(nullable)]}
        )

    def schema(self, nullable: bool) -> JsonSchemaValue:
        """JSON Schema of the parts."""
        kinds: dict[str | None, JsonSchemaValue] = {
            self.value: {"type": "number"},
            self.interval: {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
            self.n: {"type": "integer"},
            self.groups: {"type": "integer"},
            self.method: {"type": "string"},
        }
        empty: JsonSchemaValue = {"type": "null"}
        parts = {
            name: {"anyOf": [kind, empty]} if nullable and self.merged else kind
            for name, kind in kinds.items()
            if name is not None
        }
        whole: JsonSchemaValue = {
            "type": "object",
            "properties": parts,
            "required": [self.value, self.interval] if nullable and self.merged else list(self.keys),
            "additionalProperties": False,
        }
        return {"anyOf": [whole, empty]} if nullable and not self.merged else whole


ABSENT: Final = "absent"
"""Marks a field that is not on disk where it is None."""


class Record(BaseModel):
    """A frozen record; its JSON has its field names, but for the parts of its merged estimates."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), ser_json_inf_nan="constants")

    merged: ClassVar[dict[str, Written]] = {}
    absent: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __pydantic_init_subclass__(cls, **further: Any) -> None:
        super().__pydantic_init_subclass__(**further)
        marks = {name: info.metadata for name, info in cls.model_fields.items()}
        cls.absent = frozenset(name for name, found in marks.items() if ABSENT in found)
        cls.merged = {
            name: mark for name, found in marks.items() for mark in found if isinstance(mark, Written) and mark.merged
        }

    def extended(self, kind: type[R], **further: object) -> R:
        """A record of another kind with the fields of this one and further ones, which win."""
        return kind.model_validate({**dict(self), **further})

    def written(self) -> dict[str, object]:
        """The record as its JSON has it."""
        return self.model_dump(mode="json")

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, value: object) -> object:
        """The parts of merged estimates as objects under the names of their fields."""
        if not isinstance(value, Mapping):
            return value
        found = dict(value)
        for name, mark in cls.merged.items():
            if not isinstance(value.get(name), Estimate) and mark.value in value:
                for key in mark.keys:
                    if key not in cls.model_fields or key == name:
                        found.pop(key, None)
                found[name] = {key: value[key] for key in mark.keys if key in value}
        return found

    @model_serializer(mode="wrap")
    def _spread(self, write: SerializerFunctionWrapHandler) -> dict[str, object]:
        """The fields, the parts of merged estimates among them."""
        spread = {}
        for name, value in write(self).items():
            if name in self.absent and getattr(self, name) is None:
                continue
            spread |= value if name in self.merged else {name: value}
        return spread

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        named = handler(schema)
        whole = handler.resolve_ref_schema(named)
        parts, missing = whole.setdefault("properties", {}), set(cls.absent)
        for name in cls.merged:
            inner = parts.pop(name)
            whole["properties"] = parts = {**inner["properties"], **parts}
            missing |= inner["properties"].keys() - (set() if name in cls.absent else set(inner["required"]))
        whole["required"] = sorted(parts.keys() - (missing - (cls.model_fields.keys() - cls.absent)))
        for kind in parts.values():
            for word in ("title", "default"):
                kind.pop(word, None)
        return named


Accuracy = Annotated[Estimate, Written("accuracy")]
Share = Annotated[Estimate, Written("share")]
CountedShare = Annotated[Estimate, Written("share", n="n")]
Value = Annotated[Estimate, Written("value")]
FullValue = Annotated[Estimate, Written("value", n="n", method="ci_method")]
FullAccuracy = Annotated[Estimate, Written("accuracy", groups="n_groups", method="ci_method")]


class Scored(Record):
    """An accuracy and how many answers it is of."""

    n: int
    accuracy: Annotated[Estimate, Written("accuracy", n="n", groups="n_groups", method="ci_method", merged=True)]
