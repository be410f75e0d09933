from __future__ import annotations

import logging
import traceback

import pytest

from tasks.addresses import has_secrets, public_name
from tasks.errors import DownloadError, InputError
from tasks.ingest import ingest
from tasks.sources import opened
from tests.conftest import many
from tests.web import serving

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
