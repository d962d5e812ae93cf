// The bucket accepts everything. There is no backend.
export default {
  async fetch(request) {
    await request.arrayBuffer();
    return new Response(null, { status: request.method === "PUT" ? 200 : 503 });
  },
};
