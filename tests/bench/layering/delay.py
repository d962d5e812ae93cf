"""A TCP proxy that adds the latency of a distant server to the loopback interface: delay.py PORT TARGET-PORT MILLISECONDS

Each direction adds half of it. Bytes are delayed but not throttled: the throughput is the loopback's.
"""

import asyncio
import sys

port, target, round_trip = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000


async def pipe(reader, writer):
    loop = asyncio.get_running_loop()
    queue = asyncio.Queue(maxsize=256)

    async def receive():
        while data := await reader.read(1 << 16):
            await queue.put((loop.time() + round_trip / 2, data))
        await queue.put((loop.time() + round_trip / 2, None))

    receiving = asyncio.create_task(receive())
    try:
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0, due - loop.time()))
            if data is None:
                break
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        receiving.cancel()
        writer.close()


async def serve(reader, writer):
    # Opening a connection takes a round trip.
    await asyncio.sleep(round_trip)
    far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
    await asyncio.gather(pipe(reader, far_writer), pipe(far_reader, writer), return_exceptions=True)


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    await server.serve_forever()


asyncio.run(main())
