"""The Hub, in the place of which a server on this machine answers: what goes there, and what comes back."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from siamura.networks import EmbeddingNet, push_to_hub

pytest.importorskip("huggingface_hub", reason="the Hub needs the extra [hub]")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub's protocol as one repository needs."""

    files: dict[str, bytes]
    private: bool | None

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/repos/create"):
            asked = json.loads(body)
            type(self).private = asked.get("visibility", asked.get("private")) in (True, "private")
            self.say({"url": f"http://{self.headers['Host']}/me/finger", "name": "me/finger"})
        elif "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            self.say(
                {
                    "files": [
                        {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked
                    ]
                }
            )
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.say(
                {"commitUrl": f"http://{self.headers['Host']}/me/finger/commit/{COMMIT}", "commitOid": COMMIT}
            )
        else:  # validate-yaml, of the card
            self.say({"errors": [], "warnings": []})

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        if not self.path.startswith(("/api/models/me/finger", "/me/finger/")):
            self.say({"error": "no such repository"}, 404, {"X-Error-Code": "RepoNotFound"})
        elif "/resolve/" in self.path:
            content = self.files[name]
            self.answer(content, 200, {"ETag": hashlib.sha1(content).hexdigest(), "X-Repo-Commit": COMMIT})
        elif "/tree/" in self.path:
            self.say([{"type": "file", "path": n, "size": len(c), "oid": hashlib.sha1(c).hexdigest()}
                      for n, c in self.files.items()])  # fmt: skip
        else:
            self.say({"id": "me/finger", "sha": COMMIT, "siblings": [{"rfilename": n} for n in self.files]})

    do_HEAD = do_GET

    def say(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.answer(
            json.dumps(content).encode(), status, {"Content-Type": "application/json"} | (headers or {})
        )

    def answer(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Nothing on the screen."""


@pytest.fixture
def hub():
    handler = type("Handler", (Hub,), {"files": {}, "private": None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()


@pytest.fixture
def folder(tmp_path):
    folder = EmbeddingNet("squeezenet1_1", dim=4, seed=3).save_pretrained(tmp_path / "model")
    (folder / "README.md").write_text("---\nlibrary_name: siamura\n---\n# A network of phantoms\n")
    (folder / "patients.csv").write_text("never to leave")
    return folder


SCRIPT = """
import sys
from siamura.networks import EmbeddingNet, push_to_hub

folder, back = sys.argv[1:]
print(push_to_hub(folder, "me/finger"))
EmbeddingNet.from_pretrained("hf-hub:me/finger").save_pretrained(back)
try:
    EmbeddingNet.from_pretrained("hf-hub:me/wrist")
except FileNotFoundError as error:
    print(error)
import socket
socket.socket.connect = None  # from here on there is no network
EmbeddingNet.from_pretrained("hf-hub:me/finger", local_files_only=True)
"""


@pytest.mark.slow
def test_a_network_goes_to_the_hub_and_comes_back(hub, folder, tmp_path):
    endpoint, held = hub
    # The Hub's library reads its address as it is imported: hence a process of its own.
    of_the_hub = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_none",
                  "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*"}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(folder), str(tmp_path / "back")], capture_output=True,
                          text=True, check=False, env={**os.environ, **of_the_hub}, timeout=900)  # fmt: skip
    assert done.returncode == 0, done.stderr
    address, missing = done.stdout.strip().splitlines()
    assert address.endswith(COMMIT)
    assert missing.startswith("hf-hub:me/wrist could not be fetched (RepositoryNotFoundError")
    assert f"model.safetensors of {endpoint}/me/wrist" in missing
    assert held.private is True
    assert set(held.files) == {"config.json", "model.safetensors", "README.md"}
    assert held.files["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    sent, back = (EmbeddingNet.from_pretrained(place) for place in (folder, tmp_path / "back"))
    x = torch.full((1, 1, 32, 32), 99, dtype=torch.uint8)
    torch.testing.assert_close(sent(x), back(x), rtol=0, atol=0)


def test_a_network_without_a_card_is_not_published(folder):
    (folder / "README.md").unlink()
    with pytest.raises(FileNotFoundError, match=r"README\.md is missing"):
        push_to_hub(folder, "me/finger")
