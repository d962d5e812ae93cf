#!/usr/bin/env python3
"""Google's XML API in front of fake-gcs-server, which implements only half of it.

    server.py FAKE-GCS-SERVER BUCKET

Clients of the XML API (such as object_store) can read, list and delete with fake-gcs-server as it is. What they
write has to be translated into the JSON API: puts, with `x-goog-if-generation-match`, and multipart uploads, whose parts
are kept here until they are put together. Credentials are not looked at. Prints its
address.
"""

import http.client
import http.server
import json
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.parse
import uuid
import xml.etree.ElementTree as xml

HOP = {"connection", "transfer-encoding", "keep-alive"}
uploads = {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body are one packet each. Without this they would wait for each other.
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def body(self):
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def answer(self, status, headers=(), body=b"", length=None):
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("content-length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def behind(self, method, path, headers, body=None):
        """Sends a request to fake-gcs-server. Returns the response and its body."""
        connection = http.client.HTTPConnection("127.0.0.1", backend, timeout=600)
        headers = {**headers, "host": f"127.0.0.1:{backend}"}
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response, body

    def pass_on(self):
        headers = {name: self.headers[name] for name in ("range", "if-match", "if-none-match") if self.headers[name]}
        response, body = self.behind(self.command, self.path, headers)
        kept = [(name, value) for name, value in response.getheaders() if name.lower() not in HOP | {"content-length"}]
        length = response.getheader("content-length") if self.command == "HEAD" else None
        self.answer(response.status, kept, b"" if self.command == "HEAD" else body, length)

    def put(self, bucket, name, content):
        """Writes an object by the JSON API's multipart upload, the only upload of fake-gcs-server with conditions."""
        boundary = uuid.uuid4().hex
        metadata = json.dumps({"name": name, "contentType": "application/octet-stream"}).encode()
        body = b"".join([
            f"--{boundary}\r\ncontent-type: application/json\r\n\r\n".encode(), metadata,
            f"\r\n--{boundary}\r\ncontent-type: application/octet-stream\r\n\r\n".encode(), content,
            f"\r\n--{boundary}--\r\n".encode(),
        ])
        query = {"uploadType": "multipart"}
        if (generation := self.headers["x-goog-if-generation-match"]) is not None:
            query["ifGenerationMatch"] = generation
        path = f"/upload/storage/v1/b/{bucket}/o?{urllib.parse.urlencode(query)}"
        response, body = self.behind("POST", path, {"content-type": f"multipart/related; boundary={boundary}"}, body)
        if response.status != 200:
            return response.status, [], body
        written = json.loads(body)
        return 200, [("etag", f'"{written["etag"]}"'), ("x-goog-generation", written["generation"])], b""

    def target(self):
        url = urllib.parse.urlsplit(self.path)
        bucket, _, name = urllib.parse.unquote(url.path).lstrip("/").partition("/")
        return bucket, name, dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))

    def do_GET(self):
        self.pass_on()

    def do_HEAD(self):
        self.pass_on()

    def do_PUT(self):
        bucket, name, query = self.target()
        content = self.body()
        if "uploadId" not in query:
            return self.answer(*self.put(bucket, name, content))
        parts = uploads.get(query["uploadId"])
        if parts is None:
            return self.answer(404)
        parts[int(query["partNumber"])] = content
        self.answer(200, [("etag", f'"{query["partNumber"]}"')])

    def do_POST(self):
        bucket, name, query = self.target()
        content = self.body()
        if "uploads" in query:
            upload = uuid.uuid4().hex
            uploads[upload] = {}
            root = xml.Element("InitiateMultipartUploadResult")
            for key, value in (("Bucket", bucket), ("Key", name), ("UploadId", upload)):
                xml.SubElement(root, key).text = value
            return self.answer(200, [("content-type", "application/xml")], xml.tostring(root))
        parts = uploads.pop(query.get("uploadId"), None)
        if parts is None:
            return self.answer(404)
        numbers = [int(part.text) for part in xml.fromstring(content).iter() if part.tag.endswith("PartNumber")]
        status, headers, _ = self.put(bucket, name, b"".join(parts[number] for number in numbers))
        root = xml.Element("CompleteMultipartUploadResult")
        for key, value in (("Bucket", bucket), ("Key", name), ("ETag", dict(headers).get("etag", ""))):
            xml.SubElement(root, key).text = value
        self.answer(status, [*headers, ("content-type", "application/xml")], xml.tostring(root))

    def do_DELETE(self):
        _, _, query = self.target()
        if "uploadId" in query:
            uploads.pop(query["uploadId"], None)
            return self.answer(204)
        self.pass_on()


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128


def free_port():
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return chosen.getsockname()[1]


program, bucket = sys.argv[1:]
backend = free_port()
address = f"127.0.0.1:{backend}"
fake = subprocess.Popen(
    [program, "-scheme", "http", "-host", "127.0.0.1", "-port", str(backend), "-backend", "memory",
     "-public-host", address, "-log-level", "error"])
try:
    made = None
    while made is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", backend, timeout=60)
            connection.request("POST", "/storage/v1/b?project=firn", json.dumps({"name": bucket}),
                               {"content-type": "application/json"})
            made = connection.getresponse().status
        except ConnectionRefusedError:
            if fake.poll() is not None:
                sys.exit("fake-gcs-server has ended")
            time.sleep(0.05)
    if made != 200:
        sys.exit(f"the bucket cannot be made: {made}")
    server = Server(("127.0.0.1", 0), Handler)
    print(f"server is running at http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
finally:
    fake.terminate()
