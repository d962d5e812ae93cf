"""Hands requests through to a registry and writes one line for each: what asked, what for, what came and when.

usage: proxy.py PORT BACKEND-PORT LOG
"""

import http.client
import http.server
import sys
import time

port, backend, log = int(sys.argv[1]), int(sys.argv[2]), open(sys.argv[3], "a", buffering=1)
started = time.monotonic()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle(self):
        # A client that tries TLS first goes on without it only if it is answered in HTTP, as by `firn serve`.
        if self.rfile.peek(1)[:1] == b"\x16":
            self.rfile.read1()
            self.wfile.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            return
        super().handle()

    def pass_on(self):
        begun = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", backend)
        connection.putrequest(self.command, self.path, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("host", "connection"):
                connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        self.end_headers()
        while chunk := answer.read(1 << 20):
            self.wfile.write(chunk)
        now = time.monotonic()
        agent = self.headers.get("user-agent", "-").split(" ")[0]
        print(agent, self.command, self.path, answer.status, f"{begun - started:.1f}", f"{now - begun:.1f}", file=log)

    do_GET = do_HEAD = pass_on

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True


Server(("127.0.0.1", port), Handler).serve_forever()
