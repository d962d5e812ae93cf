// A KV namespace in memory, with workerd's HTTP interface to KV.
const values = new Map();

export default {
  async fetch(request) {
    const key = decodeURIComponent(new URL(request.url).pathname.slice(1));
    if (request.method === "PUT") {
      const metadata = request.headers.get("cf-kv-metadata");
      values.set(key, { bytes: await request.arrayBuffer(), headers: metadata ? { "cf-kv-metadata": metadata } : {} });
      return new Response();
    }
    const value = values.get(key);
    return value ? new Response(value.bytes, { headers: value.headers }) : new Response(null, { status: 404 });
  },
};
