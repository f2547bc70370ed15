import http.server
import threading

import pytest

import efflab.foundation.registry as registry


@pytest.fixture(autouse=True)
def fresh_registry():
    """Plug-in look-ups are cached per process; tests that drop in plug-ins need them afresh."""
    yield
    registry.sources.cache_clear()
    registry.load.cache_clear()


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    """A working directory of the test's own, with its store in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EFFLAB_STORE", raising=False)
    return tmp_path


@pytest.fixture
def serve():
    """Give bytes a URL of a server on the loopback address that resumes; returns (url, list of asked ranges)."""
    servers = []

    def start(name, body):
        asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.headers.get("Range"))
                first = int(self.headers["Range"].split("=")[1].rstrip("-")) if self.headers.get("Range") else 0
                self.send_response(206 if first else 200)
                self.end_headers()
                self.wfile.write(body[first:])

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}/{name}", asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A folder with a tiny checkpoint of each kind, and the modules that were saved."""
    from checkpoints import NAMES, save

    folder = tmp_path_factory.mktemp("checkpoints")
    return folder, {name: save(folder / name, name) for name in NAMES}
