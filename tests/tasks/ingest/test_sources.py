from __future__ import annotations

import gzip
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import pytest

from tasks.errors import DownloadError, InputError, UserError
from tasks.ingest import download, files, source_names
from tasks.ingest.read import ingest
from tasks.ingest.sources import opened
from tasks.storage.urls import has_secrets, public_name
from tests.helpers.amounts import amount, mostly_long
from tests.helpers.tracks import many
from tests.helpers.web import serving

pytestmark = pytest.mark.slow

SECRETS = ("me:", "pa/ss", "pa%2Fss", "pa%2fss", "to/ken", "to%2Fken", "to%2fken", "frag", "signed")


def secret_url(address: str, path: str) -> str:
    return f"http://me:pa%2Fss@{address}/{path}?token=to%2Fken#frag"


@pytest.fixture
def web():
    with serving() as web:
        yield web


@pytest.mark.parametrize(
    ("path", "kind", "reason"),
    [
        ("403", InputError, "the server answered 403"),
        ("404", InputError, "nothing is there"),
        ("500", DownloadError, "the server answered 500"),
        ("redirect", InputError, "the server answered 403"),
        ("loop", DownloadError, "TooManyRedirects"),
        ("hangup", DownloadError, "ServerDisconnectedError"),
        ("short", DownloadError, "ClientPayloadError"),
    ],
)
@pytest.mark.parametrize("is_secret", [True, False])
def test_a_download_that_fails_is_told_without_secrets(path, kind, reason, is_secret, web, warehouse, caplog) -> None:
    caplog.set_level(logging.INFO)
    url = secret_url(web.address, path) if is_secret else f"http://{web.address}/{path}"
    with pytest.raises(InputError, match=rf"http://{web.address}/{path}: cannot be downloaded \({reason}") as refusal:
        ingest(url, {}, 0.0, warehouse)
    assert type(refusal.value) is kind
    told = "".join(traceback.format_exception(refusal.value)) + caplog.text  # as Prefect logs it
    assert [secret for secret in SECRETS if secret in told] == []
    assert list((warehouse.root / "tmp").glob("*.tmp")) == []


def test_nobody_there_is_told_without_secrets(warehouse) -> None:
    with pytest.raises(DownloadError, match=r"127.0.0.1:1/x: cannot be downloaded \(ClientConnectorError") as refusal:
        ingest(secret_url("127.0.0.1:1", "x"), {}, 0.0, warehouse)
    told = "".join(traceback.format_exception(refusal.value))
    assert [secret for secret in SECRETS if secret in told] == []


def test_secrets_reach_the_server(web, warehouse) -> None:
    web.files["t.csv"] = many(30).write_csv().encode()
    assert ingest(secret_url(web.address, "t.csv"), {}, 0.0, warehouse).source == f"http://{web.address}/t.csv"
    assert web.asked[-1] == ("/t.csv?token=to/ken", "Basic bWU6cGEvc3M=")  # a slash needs no code in a query


def test_a_large_file_comes_from_a_server_that_cannot_send_parts(web, warehouse) -> None:
    web.files["large.csv"] = b"a,b\n" + b"1,2\n" * 3_000_000
    with opened(f"http://{web.address}/large.csv", warehouse) as file:
        assert file.path.stat().st_size == len(web.files["large.csv"])


def test_a_folder_is_refused(tmp_path, warehouse) -> None:
    with pytest.raises(InputError, match="is a folder"):
        ingest(f"file://{tmp_path}", {}, 0.0, warehouse)
    assert list((warehouse.root / "tmp").glob("*.tmp")) == []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/a.csv", "https://host/a.csv"),
        ("https://host:8443/a%20b.csv", "https://host:8443/a%20b.csv"),
        ("s3://key:secret@bucket/a.csv?versionId=secret", "s3://bucket/a.csv"),
        ("https://token-secret@host/a.csv", "https://host/a.csv"),
        ("https://host/a.csv#secret", "https://host/a.csv"),
        ("simplecache::https://me:secret@host/a.csv", "simplecache::https://host/a.csv"),
    ],
)
def test_the_public_name_of_a_url_holds_no_secret(url, shown) -> None:
    assert public_name(url) == shown
    assert has_secrets(url) == ("secret" in url)


@pytest.mark.parametrize("url", ["http://me:sec/ret@host/x.csv", "http://[me:secret@host/x", "http://me:s℀cret@host/x"])
def test_a_url_that_is_none_is_refused_without_being_quoted(url, warehouse) -> None:
    with pytest.raises(InputError, match="is not a valid URL") as refusal:
        ingest(url, {}, 0.0, warehouse)
    assert "cret" not in "".join(traceback.format_exception(refusal.value))


@pytest.mark.parametrize("path", ["a?token=1.csv", "me:secret@x.csv", "sample.csv", "a#b.csv"])
def test_the_name_of_a_file_is_no_secret(path) -> None:
    assert not has_secrets(path)


def leftovers(warehouse) -> list[str]:
    folder = warehouse.root / "tmp"
    return [file.name for file in folder.iterdir() if file.suffix != ".lock"] if folder.exists() else []


@pytest.mark.parametrize("how", ["", "file://"])
@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("pipe", "is a pipe, not a file"),
        ("folder", "is a folder"),
        ("socket", "is a socket"),
        ("device", "is a device"),
    ],
)
def test_what_is_no_regular_file_is_refused_at_once(kind, told, how, tmp_path, warehouse, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tracks.csv"
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "socket":
            listener.bind("tracks.csv")  # whose path must be short
        else:
            path.symlink_to("/dev/zero")
        for read in (source_names.check, lambda source: ingest(source, {}, 0.0, warehouse)):
            with pytest.raises(InputError, match=rf"tracks\.csv: {told}"):
                read(f"{how}{path}")


def test_a_file_that_becomes_a_pipe_is_not_waited_for(tmp_path, monkeypatch) -> None:
    path = tmp_path / "tracks.csv"
    os.mkfifo(path)
    monkeypatch.setattr(files, "check_regular", lambda *_: None)  # it was a file when that looked
    with pytest.raises(InputError, match="is a pipe"), files.regular_file(path, "tracks.csv"):
        pass


@pytest.mark.skipif(not Path("/proc/kmsg").exists(), reason="of Linux")
def test_a_file_of_the_kernel_has_no_end_and_is_not_read(warehouse) -> None:
    with pytest.raises(InputError, match=r"kmsg: (is empty|cannot be read)"):
        ingest("/proc/kmsg", {}, 0.0, warehouse)


def test_a_file_that_grows_is_not_followed(tmp_path, warehouse) -> None:
    path = tmp_path / "tracks.csv"
    path.write_bytes(many(100).write_csv().encode() + b"\n" * 64_000_000)
    ended = threading.Event()

    def grow() -> None:
        with path.open("ab", buffering=0) as file:
            while not ended.wait(0.002):
                file.write(b"x" * 1_000_000)

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        while path.stat().st_size < 70_000_000:
            time.sleep(0.01)
        with pytest.raises(InputError, match=r"tracks\.csv: changed while it was read"):
            ingest(str(path), {}, 0.0, warehouse)
    finally:
        ended.set()
        writer.join()


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet"])
def test_a_source_may_hold_so_much_and_no_more(name, tmp_path, warehouse) -> None:
    frame = many(500)
    path = tmp_path / name
    text = frame.write_csv().encode()
    if name == "t.parquet":
        frame.write_parquet(path)
    else:
        path.write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    most = path.stat().st_size if name == "t.parquet" else len(text)
    with pytest.raises(InputError, match=rf"{name}: .*--max-source-bytes"):
        ingest(str(path), {}, 0.0, warehouse, max_bytes=most // 2 if name == "t.parquet" else most - 1)
    assert ingest(str(path), {}, 0.0, warehouse, max_bytes=max(most, len(text))).rows_read == frame.height


@pytest.mark.parametrize("rows", ["200000000", "9" * 5_000])
def test_the_sample_has_a_bound_too(rows, warehouse) -> None:
    with pytest.raises(UserError, match="of more than 133,333,333 tracks takes more than --max-source-bytes allows"):
        ingest(f"sample:{rows}", {}, 0.0, warehouse)
    with pytest.raises(UserError, match="of more than 6 tracks"):
        ingest("sample:7", {}, 0.0, warehouse, max_bytes=1_000)


@pytest.mark.parametrize("is_secret", mostly_long([True, False], True))
@pytest.mark.alone
@pytest.mark.parametrize(
    ("path", "kind", "told"),
    [
        ("endless", InputError, "holds more than the 5,000,000 bytes"),
        ("huge", InputError, "holds more than the 5,000,000 bytes"),
        ("stall", DownloadError, "the server sent less than 30,000 bytes in 1 seconds"),
        ("silent", DownloadError, "the server sent less than 30,000 bytes in 1 seconds"),
        ("drip", DownloadError, "the server sent less than 30,000 bytes in 1 seconds"),
    ],
)
def test_a_download_without_end_is_given_up(path, kind, told, is_secret, web, warehouse, monkeypatch) -> None:
    monkeypatch.setattr(download, "SLOW_SECONDS", 1.0)
    url = secret_url(web.address, path) if is_secret else f"http://{web.address}/{path}"
    began = time.monotonic()
    with pytest.raises(InputError, match=rf"^http://{web.address}/{path}: {told}") as refusal:
        ingest(url, {}, 0.0, warehouse, max_bytes=5_000_000)
    assert type(refusal.value) is kind
    assert time.monotonic() - began < 10
    told_all = "".join(traceback.format_exception(refusal.value))
    assert [secret for secret in SECRETS if secret in told_all] == []
    assert leftovers(warehouse) == []
    sent = web.sent
    time.sleep(0.5)
    assert web.sent - sent < 5_000_000  # nobody goes on reading


def test_a_download_takes_no_more_than_its_time(web, warehouse, monkeypatch) -> None:
    monkeypatch.setattr(download, "MOST_SECONDS", 1.0)
    with pytest.raises(InputError, match="was not there after 0 minutes") as refusal:
        ingest(f"http://{web.address}/drip", {}, 0.0, warehouse)
    assert not isinstance(refusal.value, DownloadError)  # for longer is no better
    assert leftovers(warehouse) == []


def test_a_download_never_takes_the_last_of_the_disk(web, warehouse, monkeypatch) -> None:
    before = shutil.disk_usage(warehouse.root.parent)
    monkeypatch.setattr(download, "SPARED_BYTES", before.free - 50_000_000)
    monkeypatch.setattr(download, "SPARED_SHARE", 1)
    with pytest.raises(
        InputError, match=r"endless: a download leaves [\d,]+ MB free on the disk of .*, where [\d,]+ MB"
    ):
        ingest(f"http://{web.address}/endless", {}, 0.0, warehouse)
    assert leftovers(warehouse) == []
    assert web.sent < 500_000_000


@pytest.mark.parametrize("url", ["nowhere://host/t.csv", "gopher://host/t.csv"])
def test_a_url_of_no_known_kind_is_refused(url, warehouse) -> None:
    with pytest.raises(InputError, match=r"cannot be downloaded \(ValueError: Protocol not known"):
        ingest(url, {}, 0.0, warehouse)


@pytest.mark.parametrize("command", mostly_long([["flows.features", "--source"], ["flows.predict"]], ["flows.predict"]))
def test_commands_give_up_in_one_line(command, web, sample_snapshot, shared_warehouse) -> None:
    home = shared_warehouse
    cases = [
        (f"http://{web.address}/endless", "3MB", "holds more than the 3,000,000 bytes"),
        ("/dev/zero", "1GB", "zero: is a device, not a file"),
        ("sample:100", "much", "--max-source-bytes: 'much' is no size such as 20GB"),
    ]
    needs_server = "flows.features" in command  # of Prefect's, for what is refused later
    for source, option, told in cases[1:] if needs_server else cases[: amount(1, 3)]:
        line = [sys.executable, "-m", *command, source, "--max-source-bytes", option, "--warehouse", str(home.root)]
        done = subprocess.run(
            line, capture_output=True, text=True, timeout=300, check=False, env=os.environ | {"PREFECT_API_URL": ""}
        )
        assert done.returncode == 1, done
        said = [text for text in done.stderr.splitlines() if "temporary server" not in text]
        assert len(said) == 1, done.stderr
        assert told in said[0]
    assert leftovers(home) == []
