# The Worker in workerd, with a KV namespace that has records of packages and stores nothing, so every request
# composes its image anew. `run` copies the modules beside this file and sets the port.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "firn", worker = (
      compatibilityDate = "2026-09-01",
      modules = [
        (name = "index.js", esModule = embed "index.js"),
        (name = "index_bg.wasm", wasm = embed "index_bg.wasm"),
      ],
      bindings = [
        (name = "FIRN_BACKEND_URL", text = "http://backend"),
        (name = "FIRN_LOG", text = "none"),
        # Records are read and parsed for each request.
        (name = "FIRN_MEMORY_BYTES", text = "0"),
        (name = "FIRN_CACHE_API", text = "false"),
        # Composed blobs are sent by PUT.
        (name = "FIRN_BLOBS", text = "presigned"),
        (name = "FIRN_S3_ENDPOINT", text = "http://bucket"),
        (name = "FIRN_S3_BUCKET", text = "firn"),
        (name = "FIRN_S3_ACCESS_KEY_ID", text = "id"),
        (name = "FIRN_S3_SECRET_ACCESS_KEY", text = "key"),
        (name = "MANIFESTS", kvNamespace = "kv"),
        (name = "FLIGHTS", durableObjectNamespace = "Flight"),
        (name = "TAGS", durableObjectNamespace = "Tag"),
      ],
      durableObjectNamespaces = [
        (className = "Flight", uniqueKey = "flight"),
        (className = "Tag", uniqueKey = "tag"),
      ],
      durableObjectStorage = (inMemory = void),
      globalOutbound = "outside",
    )),
    (name = "kv", worker = (
      compatibilityDate = "2026-09-01",
      modules = [
        (name = "kv.mjs", esModule = embed "kv.mjs"),
        (name = "values.json", json = embed "values.json"),
      ],
    )),
    (name = "outside", worker = (
      compatibilityDate = "2026-09-01",
      modules = [(name = "outside.mjs", esModule = embed "outside.mjs")],
    )),
  ],
  sockets = [(name = "firn", address = "127.0.0.1:FIRN_PORT", http = (), service = "firn")],
);
