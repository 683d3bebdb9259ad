"""Tables as Parquet files: the same rows give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from videocrafter.media.atomic_write import write_all
from videocrafter.preparation.failures import PreparationError


def write_parquet(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows whole, replacing an earlier file. The first rows need not have all columns.

    Raises:
        OutputError: the disk is full, or cannot be written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.table({name: pa.array([_storable(row.get(name)) for row in rows]) for name in names})
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd")
    write_all({path: buffer.getvalue()}, overwrite=True)


def printable(text: str) -> str:
    """Return text that UTF-8 can encode: other characters, as in names of files of old systems, become escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _storable(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value


def read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file that this module wrote.

    Raises:
        PreparationError: it is damaged.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        for batch in parquet.ParquetFile(path).iter_batches(4096):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        first_line = str(error).partition("\n")[0]
        raise PreparationError(f"{path} is damaged ({first_line}); restore it, or choose another output") from error
