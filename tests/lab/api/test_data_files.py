"""The data files: rebuilt from their source, and true to the code that reads them."""

from __future__ import annotations

import gzip

from lab.api import defaults, protobuf, schema, table
from lab.api.resources import Catalog
from lab.data import make_schema


def test_the_schema_file_is_what_its_script_builds() -> None:
    """Compared unpacked: another zlib may pack the same text into other bytes."""
    assert gzip.decompress(make_schema.build()) == gzip.decompress(make_schema.TARGET.read_bytes())


def test_every_served_kind_has_a_schema() -> None:
    missing = [row.kind for row in Catalog() if not row.is_refused and not schema.of_kind(row.api_version, row.kind)]
    assert missing == []


def test_every_kind_with_objects_has_columns() -> None:
    kinds = {row.plural for row in Catalog() if "list" in row.verbs and not row.is_refused}
    assert kinds <= table._built_in().keys()


def test_every_default_belongs_to_a_field_that_exists() -> None:
    for name, values in defaults._table().items():
        assert values.keys() <= schema.definitions()[name]["properties"].keys(), name


def test_every_message_of_the_protobuf_table_is_known() -> None:
    scalars = {"s", "i", "b", "y", "-"}
    for fields in protobuf._messages().values():
        for field in fields.values():
            assert field.type in scalars or field.type in protobuf._messages(), field


def test_every_field_of_the_protobuf_table_is_one_of_the_schema() -> None:
    """A misspelt JSON name would be dropped as an unknown field."""
    for row in Catalog():
        if row.kind in protobuf._messages() and row.kind != "Eviction":
            properties = (schema.of_kind(row.api_version, row.kind) or {})["properties"]
            _check(row.kind, properties)


def _check(message: str, properties: dict[str, object]) -> None:
    for field in protobuf._messages()[message].values():
        if field.type == "-":
            continue
        assert field.name in properties, f"{message}.{field.name}"
        inner = schema.resolved(properties[field.name])  # type: ignore[arg-type]
        inner = schema.resolved(inner.get("items", inner)) if field.shape == "*" else inner
        if field.type in protobuf._messages() and "properties" in inner:
            _check(field.type, inner["properties"])


def test_every_cell_that_a_column_names_exists() -> None:
    for columns in table._built_in().values():
        assert all(callable(column.cell) for column in columns)
