// The server behind the Cache API. Keeps everything in memory.
const entries = new Map();

export default {
  async fetch(request) {
    if (request.method === "PUT") {
      entries.set(request.url, parse(new Uint8Array(await request.arrayBuffer())));
      return new Response(null, { status: 204 });
    }
    const entry = entries.get(request.url);
    if (!entry) return new Response(null, { status: 504, headers: { "cf-cache-status": "MISS" } });
    return new Response(entry.body, { headers: { ...entry.headers, "cf-cache-status": "HIT" } });
  },
};

// The value is a whole HTTP response, head and body.
function parse(bytes) {
  let end = 0;
  while (!(bytes[end] === 13 && bytes[end + 1] === 10 && bytes[end + 2] === 13 && bytes[end + 3] === 10)) end++;
  const lines = new TextDecoder().decode(bytes.subarray(0, end)).split("\r\n").slice(1);
  const headers = Object.fromEntries(lines.map((line) => line.split(/: (.*)/s).slice(0, 2)));
  return { headers, body: bytes.slice(end + 4) };
}
