// One image. Its manifest is about as large as one with 60 layers.
const type = "application/vnd.oci.image.manifest.v1+json";
const layer = (i) => ({
  mediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
  digest: "sha256:" + i.toString(16).padStart(64, "0"),
  size: 1000 + i,
});
const config = { ...layer(0), mediaType: "application/vnd.oci.image.config.v1+json" };
const layers = Array.from({ length: 60 }, (_, i) => layer(i + 1));
const body = new TextEncoder().encode(JSON.stringify({ schemaVersion: 2, mediaType: type, config, layers }));

export default {
  async fetch() {
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", body));
    const digest = "sha256:" + Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
    return new Response(body, {
      headers: { "content-type": type, "docker-content-digest": digest, "x-firn-package-set": "set", "x-firn-revision": "r" },
    });
  },
};
