"""`svp assets`: the registry, and fetching from a server of the test's own: resumed, verified, mirrored, refused."""

import hashlib
import http.server
import re
import threading

import pytest
import yaml

from svp_jax import downloads, model_files
from svp_jax.downloads import fetch, listing
from svp_jax.errors import UserError
from svp_jax.face.parsers import SEGMENTER
from svp_jax.model_files import model_folders, registry

CONTENT = bytes(range(256)) * 9000


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; with ranges or without, whole or broken off after some bytes."""

    ranges, sends = True, len(CONTENT)
    asked: list[str | None] = []  # noqa: RUF012

    def do_GET(self):
        asked = self.headers.get("Range")
        Server.asked.append(asked)
        if "absent" in self.path:
            self.send_error(404)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and Server.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : start + Server.sends])

    def log_message(self, *args):
        pass


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A registry of files on a server of the test's own, and an empty folder of model files."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    entry = {"licence": "MIT", "use": "tests", "bytes": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}
    entries = [
        {"file": "folder/one.bin", "url": f"{address}/a (b)/one.bin", **entry},
        {"file": "folder/two.bin", "url": f"{address}/two.bin", **entry},
        {"file": "other.bin", "url": f"{address}/other.bin", **entry, "sha256": "0" * 64},
        {"file": "restricted.bin", "url": f"{address}/r.bin", **entry, "licence": "CC BY-NC", "commercial": False},
        {"file": "gone.bin", "url": f"{address}/absent", **entry},
        {"file": "page", "url": f"{address}/page", "licence": "MIT", "use": "tests"},
    ]
    path = tmp_path / "registry.yaml"
    path.write_text(yaml.safe_dump(entries))
    monkeypatch.setattr(model_files, "REGISTRY", path)
    monkeypatch.setattr(Server, "ranges", True)
    monkeypatch.setattr(Server, "sends", len(CONTENT))
    monkeypatch.setattr(Server, "asked", [])
    monkeypatch.setenv("SVP_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    registry.cache_clear()
    yield tmp_path / "models"
    registry.cache_clear()
    server.shutdown()


def test_a_folder_is_fetched_once(own):
    paths = fetch(["folder"], None, False)
    assert paths == [own / "folder" / "one.bin", own / "folder" / "two.bin"]
    assert all(path.read_bytes() == CONTENT for path in paths)
    assert fetch(["folder/one.bin"], None, False) == paths[:1] and len(Server.asked) == 2
    assert sorted(path.name for path in own.rglob("*")) == ["folder", "one.bin", "two.bin"]


@pytest.mark.parametrize("ranges", [True, False])
def test_it_goes_on_where_it_was_cut_off(own, ranges):
    """Also where the server knows no ranges and sends all of it again."""
    Server.ranges, Server.sends = ranges, 100_000
    with pytest.raises(UserError, match=r"one\.bin: the connection broke off after 100000 of 2304000 bytes"):
        fetch(["folder/one.bin"], None, False)
    assert (own / "folder" / "one.bin.part").stat().st_size == 100_000
    assert not (own / "folder" / "one.bin").exists()
    Server.sends = len(CONTENT)
    assert fetch(["folder/one.bin"], None, False)[0].read_bytes() == CONTENT
    assert Server.asked == [None, "bytes=100000-"]


def test_another_content_is_not_kept(own):
    with pytest.raises(UserError, match=r"other\.bin from http.* has sha256 .*0{12} is expected; nothing was kept"):
        fetch(["other.bin"], None, False)
    assert not list(own.rglob("*.bin*"))


def test_a_mirror_needs_no_network(own, tmp_path):
    (tmp_path / "mirror" / "folder").mkdir(parents=True)
    (tmp_path / "mirror" / "folder" / "one.bin").write_bytes(CONTENT)
    assert fetch(["folder/one.bin"], tmp_path / "mirror", False)[0].read_bytes() == CONTENT
    with pytest.raises(UserError, match=r"--mirror .*mirror: it has no folder/two\.bin"):
        fetch(["folder/two.bin"], tmp_path / "mirror", False)
    (tmp_path / "mirror" / "folder" / "two.bin").write_bytes(b"something else")
    with pytest.raises(UserError, match="nothing was kept"):
        fetch(["folder/two.bin"], tmp_path / "mirror", False)
    assert not Server.asked


def test_what_is_refused(own):
    with pytest.raises(UserError, match=r"restricted\.bin: its licence, CC BY-NC, forbids .*--accept-non-commercial"):
        fetch(["restricted.bin"], None, False)
    assert fetch(["restricted.bin"], None, True)
    with pytest.raises(UserError, match=r"--fetch othr\.bin: no such file in the registry; did you mean other\.bin"):
        fetch(["othr.bin"], None, False)
    with pytest.raises(UserError, match="--fetch page: it is a page to look at, http"):
        fetch(["page"], None, False)
    with pytest.raises(UserError, match=r"gone\.bin: cannot fetch .*Not Found.*--mirror"):
        fetch(["gone.bin"], None, False)
    # Nothing is fetched where one of the names is refused.
    with pytest.raises(UserError, match="no such file"):
        fetch(["folder", "nothing"], None, False)
    assert not (own / "folder").exists()


def test_a_file_of_the_users_own_is_not_replaced(own):
    (own / "folder").mkdir(parents=True)
    (own / "folder" / "one.bin").write_bytes(b"something of mine")
    with pytest.raises(UserError, match=r"one\.bin is there and is another file than the registry's; remove it"):
        fetch(["folder/one.bin"], None, False)
    assert (own / "folder" / "one.bin").read_bytes() == b"something of mine"


def test_a_part_that_is_too_long_is_thrown_away(own):
    (own / "folder").mkdir(parents=True)
    (own / "folder" / "one.bin.part").write_bytes(CONTENT + b"more")
    assert fetch(["folder/one.bin"], None, False)[0].read_bytes() == CONTENT


def test_the_list_says_what_is_there(own):
    fetch(["folder/one.bin"], None, False)
    (own / "other.bin").write_bytes(b"an older one")
    lines = "\n".join(listing())
    assert re.search(r"present +folder/one\.bin +2\.3 MB +MIT", lines)
    assert re.search(r"absent +folder/two\.bin", lines) and re.search(r"DIFFERENT +other\.bin", lines)
    assert re.search(r"restricted\.bin .*NOT FOR COMMERCIAL USE", lines) and re.search(r"link +page", lines)


def test_the_programs_own_registry():
    files = registry()
    assert SEGMENTER in files and "face_landmarker.task" in files and "clip_tokenizer/vocab.json" in files
    for entry in files.values():
        assert entry.url.startswith("https://") and entry.licence and entry.use
        if entry.sha256:
            assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256) and entry.bytes > 1000
            # A hash in a file's name is the beginning of its own.
            named = re.search(r"-([0-9a-f]{8})\.pth$", entry.file)
            assert not named or entry.sha256.startswith(named[1])


def test_shared_files_have_the_registered_hashes(shared):
    """Where real files lie, they are those of the registry."""
    for name in ("face_landmarker.task", "skin_clothes_hair_pan.onnx"):
        path = shared / "models" / name
        assert downloads.sha256_file(path) == registry()[name].sha256 and path.stat().st_size == registry()[name].bytes
    for name in ("vocab.json", "merges.txt"):
        assert downloads.sha256_file(shared / "tokenizer" / name) == registry()[f"clip_tokenizer/{name}"].sha256


def test_the_first_folder_is_the_users_own(own):
    assert model_folders()[0] == own
