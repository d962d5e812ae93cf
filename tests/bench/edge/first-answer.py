"""Milliseconds from the start of a server to its first answer: first-answer.py PORT PATH COMMAND…"""

import socket
import subprocess
import sys
import time

LIMIT_SECONDS = 30
port, path, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
start = time.monotonic()
server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
try:
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_SECONDS) as connection:
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                if connection.recv(1).startswith(b"H"):
                    break
        except ConnectionRefusedError:
            if server.poll() is not None or time.monotonic() - start > LIMIT_SECONDS:
                sys.exit("first-answer: the server does not start")
            time.sleep(0.0005)
    print(f"{(time.monotonic() - start) * 1000:.1f}")
finally:
    server.kill()
    server.wait()
