// The least work that a Worker can do for a manifest: read it from KV and respond, without verification.
export default {
  async fetch(request, env, context) {
    const match = new URL(request.url).pathname.match(/^\/v2\/(.+)\/manifests\/([^/]+)$/);
    if (!match) return new Response("not found", { status: 404 });
    const key = `${match[1]}:${match[2]}`;
    let { value, metadata } = await env.MANIFESTS.getWithMetadata(key, "arrayBuffer");
    if (!value) {
      const response = await fetch("http://backend" + new URL(request.url).pathname);
      value = await response.arrayBuffer();
      metadata = { digest: response.headers.get("docker-content-digest"), type: response.headers.get("content-type") };
      context.waitUntil(env.MANIFESTS.put(key, value, { metadata }));
    }
    return new Response(request.method === "HEAD" ? null : value, {
      headers: {
        "content-type": metadata.type,
        "content-length": String(value.byteLength),
        "docker-content-digest": metadata.digest,
        "docker-distribution-api-version": "registry/2.0",
        etag: `"${metadata.digest}"`,
      },
    });
  },
};
