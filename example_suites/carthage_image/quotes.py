"""A service as small as can be: answers every request with a sentence of its file."""

import random
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

QUOTES = Path("/etc/quotes.txt").read_text(encoding="utf-8").splitlines()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        answer = f"{random.choice(QUOTES)}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


ThreadingHTTPServer(("", int(sys.argv[1])), Handler).serve_forever()
