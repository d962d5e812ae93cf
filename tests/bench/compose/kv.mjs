// A KV namespace with the contents of values.json, which `run` writes. It keeps nothing else.
import stored from "./values.json";

const values = new Map(Object.entries(stored).map(([key, text]) => [key, Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]));

export default {
  async fetch(request) {
    if (request.method === "PUT") {
      await request.arrayBuffer();
      return new Response();
    }
    const value = values.get(decodeURIComponent(new URL(request.url).pathname.slice(1)));
    return value ? new Response(value) : new Response(null, { status: 404 });
  },
};
