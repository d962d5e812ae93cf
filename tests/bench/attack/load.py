"""The two sides of the attack bench. Loopback only; both end after SECONDS.

load.py bystander PORT IMAGE SECONDS        pulls IMAGE again and again from 127.0.0.9: the manifest by tag, by digest,
                                            and every blob, over a connection of its own each time; prints
                                            "p50 p99 pulls errors", times in milliseconds, and the first error
load.py NAME PORT SECONDS                   attacks from 127.0.0.2 and 127.0.0.3; prints how many requests were sent
"""

import asyncio, hashlib, http.client, itertools, json, sys, time, urllib.parse

MOST = 200_000  # requests an attacker sends at most


def pull(port, image):
    servers = {}

    def ask(port, path):
        if port not in servers:
            servers[port] = http.client.HTTPConnection("127.0.0.1", port, timeout=30, source_address=("127.0.0.9", 0))
        servers[port].request("GET", path, headers={"Accept": "application/vnd.oci.image.manifest.v1+json"})
        answer = servers[port].getresponse()
        return answer, answer.read()

    def get(path):
        answer, body = ask(port, f"/v2/{image}/{path}")
        if answer.status == 307:  # the edge sends clients to where blobs are
            where = urllib.parse.urlsplit(answer.headers["Location"])
            answer, body = ask(where.port, f"{where.path}?{where.query}" if where.query else where.path)
        if answer.status != 200:
            raise ValueError(f"{path}: {answer.status} {body[:200]}")
        return body

    try:
        manifest = get("manifests/latest")
        if get(f"manifests/sha256:{hashlib.sha256(manifest).hexdigest()}") != manifest:
            raise ValueError("another manifest")
        manifest = json.loads(manifest)
        for blob in [manifest["config"], *manifest["layers"]]:
            if len(get(f"blobs/{blob['digest']}")) != blob["size"]:
                raise ValueError("a blob of another size")
    finally:
        for server in servers.values():
            server.close()


def bystander(port, image, seconds):
    times, errors, first = [], 0, ""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        try:
            pull(port, image)
        except Exception as error:
            errors, first = errors + 1, first or repr(error)
        times.append((time.monotonic() - begun) * 1000)
        time.sleep(0.01)
    times.sort()
    at = lambda part: times[min(len(times) - 1, int(len(times) * part))]
    print(f"{at(0.5):.1f} {at(0.99):.1f} {len(times)} {errors} {first}")


class Attacker:
    def __init__(self, port, seconds):
        self.port, self.end, self.sent = port, time.monotonic() + seconds, 0

    async def ask(self, path, method="HEAD", patience=30.0):
        """One request over its own connection. Disconnects after PATIENCE seconds."""
        self.sent += 1
        writer = None
        try:
            source = f"127.0.0.{2 + self.sent % 2}"
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            await asyncio.wait_for(reader.read(), patience)
        except (OSError, asyncio.TimeoutError):
            pass
        finally:
            if writer:
                writer.close()

    async def drip(self, _):
        """Sends a request's head at one byte per second."""
        self.sent += 1
        writer = None
        try:
            source = f"127.0.0.{2 + self.sent % 2}"
            _, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
            for byte in b"GET /v2/hello/manifests/latest HTTP/1.1\r\nx: " + b"y" * 200:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(min(1, max(0, self.end - time.monotonic())))
                if time.monotonic() >= self.end:
                    break
        except OSError:
            await asyncio.sleep(0.05)
        finally:
            if writer:
                writer.close()

    async def run(self, width, attempt):
        numbers = itertools.count()

        async def worker():
            while time.monotonic() < self.end and self.sent < MOST:
                await attempt(next(numbers))

        workers = [asyncio.create_task(worker()) for _ in range(width)]
        await asyncio.wait(workers, timeout=max(0, self.end - time.monotonic()))
        for each in workers:
            each.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def attack(name, port, seconds):
    us = Attacker(port, seconds)
    path = "/v2/{}/manifests/{}".format
    crosses = ("pkgscross.riscv64", "pkgs", "pkgsmusl", "pkgscross.raspberrypi")
    attacks = {
        # As many connections at a time as are needed to keep the attacker's core busy.
        "heads": (40, lambda n: us.ask(path(f"slow-{n % 1000}", "latest"), patience=0.02)),
        "names": (40, lambda n: us.ask(path(".".join(itertools.islice(itertools.cycle(crosses), n % 5 + 1)) + f".hello-{n}", "latest"), patience=2)),
        "evaluations": (20, lambda n: us.ask(path("/".join(["aborts", "endless"][: n % 2 + 1] + [f"p{(n * 40 + i) % 1000}" for i in range(40)]), "latest"), patience=2)),
        "flights": (200, lambda n: us.ask(path(f"slow-{n % 4}", "latest"), method="GET", patience=30)),
        "refs": (40, lambda n: us.ask(path("hello", f"made-up-{n}"), patience=2)),
        "drip": (600, us.drip),
        "lookups": (40, lambda n: us.ask(path(f"made-up-{n}", "latest"), patience=2)),
    }
    asyncio.run(us.run(*attacks[name]))
    print(us.sent)


if __name__ == "__main__":
    what, port, *rest = sys.argv[1:]
    if what == "bystander":
        bystander(int(port), rest[0], float(rest[1]))
    else:
        attack(what, int(port), float(rest[0]))
