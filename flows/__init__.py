"""What runs: one Prefect flow a file, each also a command (`python -m flows.NAME`)."""

import os
import resource
import sys
import warnings

# Prefect reads these when it is first imported, which is after this. A worker has imported it before and keeps its own.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "240")
# The commands print what people need; the full log is in the Prefect UI (level INFO here shows it on the console).
os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
# A server that is gone is waited for half a minute at a time, not a minute; one that hangs 10 s for each answer.
os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "4")
os.environ.setdefault("PREFECT_API_REQUEST_TIMEOUT", "10")
# What Prefect tells of its own threads, at length, when its server is gone.
os.environ.setdefault("PREFECT_INTERNAL_LOGGING_LEVEL", "CRITICAL")
# Prefect says so whenever it is imported; who needs its home is told what to do (flows/server.py).
warnings.filterwarnings("ignore", "Failed to create the Prefect home directory", UserWarning)

LEAST_ADDRESS_SPACE = 4 * 2**30  # bytes, below which libraries crash instead of saying what they lack


def _check_address_space() -> None:
    """Leave with one line where the process may map too little memory: DuckDB, Arrow and TensorFlow crash there."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST_ADDRESS_SPACE:
        sys.exit(
            f"The limit on address space (ulimit -v) is {limit // 2**20:,} MiB; {LEAST_ADDRESS_SPACE // 2**20:,} MiB "
            "are needed. Raise it; memory itself is limited by MUSIC_MEMORY_LIMIT."
        )


_check_address_space()
