"""The shop: tells who it is, and what it is set up with."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

VERSION = Path("/usr/lib/shop/VERSION").read_text(encoding="utf-8").strip()
SETTINGS = json.loads(Path("/etc/shop.json").read_text(encoding="utf-8"))


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        told = {
            "version": VERSION,
            "greeting": "Welcome",
            "currency": SETTINGS["currency"],
        }
        answer = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


ThreadingHTTPServer(("", SETTINGS["port"]), Handler).serve_forever()
