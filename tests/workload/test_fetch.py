"""Fetching: from a folder that stands for the network, with digests that are right, wrong, or already there."""

import gzip
import hashlib

import pytest

from thunderserve.spec.errors import SpecError
from thunderserve.workload.fetch import DIGESTS, fetch_azure


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "a.csv").write_bytes(b"TIMESTAMP,ContextTokens,GeneratedTokens\r\n0,1,1\r\n")
    return folder


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_arrives_whole(server, tmp_path):
    digests = {"a.csv": digest(server / "a.csv")}
    paths = fetch_azure(tmp_path / "new" / "folder", source=server.as_uri(), digests=digests)
    assert paths == [tmp_path / "new" / "folder" / "a.csv"]
    assert paths[0].read_bytes() == (server / "a.csv").read_bytes()


def test_a_whole_file_is_not_fetched_again_and_a_broken_one_is(server, tmp_path):
    digests = {"a.csv": digest(server / "a.csv")}
    (path,) = fetch_azure(tmp_path / "here", source=server.as_uri(), digests=digests)
    assert fetch_azure(tmp_path / "here", source="file:///nowhere", digests=digests) == [path]
    path.write_bytes(b"half")
    fetch_azure(tmp_path / "here", source=server.as_uri(), digests=digests)
    assert digest(path) == digests["a.csv"]


def test_other_content_is_refused_and_leaves_nothing(server, tmp_path):
    with pytest.raises(SpecError, match=r"is not the file it should be: SHA-256 \w{16}\.\.\., not 0{16}\.\.\.; it may"):
        fetch_azure(tmp_path / "here", source=server.as_uri(), digests={"a.csv": "0" * 64})
    assert list((tmp_path / "here").iterdir()) == []


def test_no_network_says_what_to_do(tmp_path):
    with pytest.raises(SpecError) as caught:
        fetch_azure(tmp_path / "here", source="http://127.0.0.1:9", digests={"a.csv": "0" * 64})
    assert caught.value.reason.startswith("cannot be fetched: ")
    assert caught.value.remedy == f"check the network, or put the file at {tmp_path / 'here' / 'a.csv'} yourself"


def test_the_digests_are_those_of_the_real_traces(trace_file):
    for name, known in DIGESTS.items():
        content = gzip.decompress(trace_file("azure", f"{name}.gz").read_bytes())
        assert hashlib.sha256(content).hexdigest() == known
