"""Format file sizes."""


def format_bytes(num_bytes: int) -> str:
    """Return a size with a decimal unit, such as "6.3 GB"."""
    for size, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes} B"
