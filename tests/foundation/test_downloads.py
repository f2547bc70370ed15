"""Downloads: servers that stall, drip, never end, resume with another file or give too much end in words, soon."""

import contextlib
import errno
import hashlib
import http.server
import threading
import time

import pytest

from efflab.foundation import downloads
from efflab.foundation.downloads import Remote, fetch_file
from efflab.foundation.errors import RequestError

BODY = bytes(range(256)) * 400
DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def answer():
    """Start a server whose answer a test writes; returns its address and the list of ranges that were asked for."""
    servers, over = [], threading.Event()

    def start(write):
        asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.headers.get("Range"))
                with contextlib.suppress(OSError):
                    write(self, over)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}/file", asked

    yield start
    over.set()
    for server in servers:
        server.shutdown()
        server.server_close()


def head(handler, status=200, **headers):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()


def whole(handler, over):
    head(handler, Content_Length=len(BODY))
    handler.wfile.write(BODY)


def silent(handler, over):
    over.wait(20)


def stalling(handler, over):
    head(handler, Content_Length=len(BODY))
    handler.wfile.write(BODY[:1000])
    over.wait(20)


def dripping(handler, over):
    head(handler, Content_Length=len(BODY))
    while not over.wait(0.02):
        handler.wfile.write(b"x")


def dripping_head(handler, over):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    while not over.wait(0.02):
        handler.wfile.write(b"x")


def endless(handler, over):
    head(handler)
    while not over.is_set():
        handler.wfile.write(bytes(100_000))


def boastful(handler, over):
    head(handler, Content_Length=10**17)


def breaking(handler, over):
    head(handler, Content_Length=len(BODY))
    handler.wfile.write(BODY[:5000])


def missing(handler, over):
    handler.send_error(404)


def elsewhere(handler, over):
    head(handler, 302, Location="file:///etc/passwd")


@pytest.mark.parametrize(
    ("write", "size", "said"),
    [
        (silent, None, r"0 bytes came in 0.3 s"),
        (stalling, None, r"1,000 bytes came in 0.3 s"),
        (dripping, None, r"\d+ bytes came in 0.3 s"),
        (dripping_head, None, r"bytes came in 0.3 s"),
        (endless, len(BODY), r"gives more than the 102,400 bytes that the file may have; it was not kept"),
        (endless, None, r"gives more than the 3,000,000 bytes"),
        (boastful, None, r"has 100,000,000,000,000,000 bytes, and the file may have 3,000,000"),
        (breaking, len(BODY), r"broke off at 5,000 of 102,400 bytes; run the same command to go on"),
        (breaking, None, r"broke off at 5,000 of 102,400 bytes"),
        (missing, None, r"answers 404 Not Found"),
        (elsewhere, None, r"file:///etc/passwd"),
    ],
)
def test_a_server_that_does_not_give_the_file_is_left_soon_and_in_words(
    write, size, said, answer, tmp_path, monkeypatch
):
    monkeypatch.setattr(downloads, "MOST_BYTES", 3_000_000)
    monkeypatch.setattr(downloads, "STALL_S", 0.3 if "came in" in said else 30.0)
    url, _ = answer(write)
    start = time.monotonic()
    with pytest.raises(RequestError, match=said):
        fetch_file(Remote(url, DIGEST, size), tmp_path / "file")
    assert time.monotonic() - start < 15
    assert not (tmp_path / "file").exists()
    left = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert left <= 5000


def test_a_download_takes_no_longer_than_it_may(answer, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "TOTAL_S", 0.2)
    url, _ = answer(endless)
    with pytest.raises(RequestError, match=r"it takes longer than 0 s\); what has come is kept"):
        fetch_file(Remote(url, DIGEST), tmp_path / "file")


def ranged(body, first=None, total=None):
    def write(handler, over):
        asked = handler.headers.get("Range")
        start = int(asked.split("=")[1].rstrip("-")) if asked else 0
        if start > len(body):
            handler.send_error(416)
            return
        begin = start if first is None or not start else first
        told = {"Content_Range": f"bytes {begin}-{len(body) - 1}/{total or len(body)}"} if start else {}
        head(handler, 206 if start else 200, Content_Length=len(body) - begin, **told)
        handler.wfile.write(body[begin:])

    return write


@pytest.mark.parametrize("size", [len(BODY), None])
@pytest.mark.parametrize(
    ("part", "write", "asked"),
    [
        (BODY[:100], ranged(BODY), ["bytes=100-"]),
        (BODY[:100], whole, ["bytes=100-"]),  # the server does not resume
        (b"another file", ranged(BODY), ["bytes=12-", None]),
        (BODY[:100], ranged(BODY, first=50), ["bytes=100-", None]),  # it resumes elsewhere
        (BODY + b"more", ranged(BODY), None),
        (BODY, ranged(BODY), None),
        (b"", ranged(BODY), [None]),
    ],
)
def test_what_an_earlier_try_left_is_used_or_thrown_away(part, write, asked, size, answer, tmp_path):
    url, found = answer(write)
    (tmp_path / "file.part").write_bytes(part)
    fetch_file(Remote(url, DIGEST, size), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert asked is None or found == asked


def test_a_file_that_has_changed_is_fetched_again_and_another_one_is_not_kept(answer, tmp_path):
    url, asked = answer(whole)
    (tmp_path / "file").write_bytes(BODY[:-1] + b"x")
    for _ in range(2):
        fetch_file(Remote(url, DIGEST), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY
    assert len(asked) == 1
    with pytest.raises(RequestError, match="another sha256 than is stated; it was not kept"):
        fetch_file(Remote(url, "0" * 64), tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_said_so_and_the_next_try_goes_on(answer, tmp_path, monkeypatch):
    url, asked = answer(ranged(BODY))
    real = downloads._fetch

    def full(remote, target, file, report):
        file.write(BODY[:700])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(downloads, "_fetch", full)
    with pytest.raises(RequestError, match="is full; what has come is kept, and the same command goes on from there"):
        fetch_file(Remote(url, DIGEST), tmp_path / "file")
    monkeypatch.setattr(downloads, "_fetch", real)
    fetch_file(Remote(url, DIGEST), tmp_path / "file")
    assert asked == ["bytes=700-"]
    assert (tmp_path / "file").read_bytes() == BODY


def test_a_file_larger_than_the_disk_is_refused_before_it_comes(answer, tmp_path):
    url, _ = answer(lambda handler, over: head(handler, Content_Length=10**17))
    with pytest.raises(RequestError, match=r"and the disk of .* has [\d,]+ left"):
        fetch_file(Remote(url, DIGEST, 10**17), tmp_path / "file")


def test_two_at_once_fetch_one_file(answer, tmp_path):
    url, asked = answer(whole)
    both = [threading.Thread(target=fetch_file, args=(Remote(url, DIGEST), tmp_path / "file")) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert (tmp_path / "file").read_bytes() == BODY
    assert len(asked) == 1


def test_a_folder_that_cannot_be_written_is_said_so(tmp_path):
    (tmp_path / "folder").write_text("")
    with pytest.raises(RequestError, match="cannot be written"):
        fetch_file(Remote("http://127.0.0.1:9/", DIGEST), tmp_path / "folder" / "file")
