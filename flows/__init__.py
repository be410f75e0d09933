"""Commands and Prefect flows, one a file: `python -m flows.NAME`; and `flows.python`, to be called from Python."""

import os
import resource
import sys
import warnings

# Prefect reads these at its first import, which comes later. In a worker it was imported before: its settings stay.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "240")
# Commands print only what users need; the full log is in the Prefect UI. Level INFO also shows it on the console.
os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
# Wait half a minute, not a minute, for a server that is gone, and 10 s for each answer of one that hangs.
os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "4")
os.environ.setdefault("PREFECT_API_REQUEST_TIMEOUT", "10")
# When its server is gone, Prefect logs long messages about its own threads.
os.environ.setdefault("PREFECT_INTERNAL_LOGGING_LEVEL", "CRITICAL")
# Prefect warns at every import; commands that need its home directory give advice (flows/server.py).
warnings.filterwarnings("ignore", "Failed to create the Prefect home directory", UserWarning)
# Threads of OpenMP that wait leave the core to others. If they spin, two threads of a process that predict in turn, as
# in the HTTP API, wait tens of milliseconds for each other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

LEAST_ADDRESS_SPACE = 4 * 2**30  # bytes; with less, libraries crash without a message


def _check_address_space() -> None:
    """Exits with one line if the limit on address space is so low that DuckDB, Arrow and TensorFlow would crash."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST_ADDRESS_SPACE:
        sys.exit(
            f"The limit on address space (ulimit -v) is {limit // 2**20:,} MiB; {LEAST_ADDRESS_SPACE // 2**20:,} MiB "
            "are needed. Raise it; memory itself is limited by MUSIC_MEMORY_LIMIT."
        )


_check_address_space()
