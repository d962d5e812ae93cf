# The Worker and a minimal JavaScript Worker side by side in one workerd, over the same KV. `run` copies the
# modules beside this file and sets the ports.
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
        (name = "FIRN_MEMORY_BYTES", text = "MEMORY_BYTES"),
        (name = "FIRN_CACHE_API", text = "CACHE_API"),
        (name = "MANIFESTS", kvNamespace = "kv"),
        (name = "FLIGHTS", durableObjectNamespace = "Flight"),
        (name = "TAGS", durableObjectNamespace = "Tag"),
      ],
      durableObjectNamespaces = [
        (className = "Flight", uniqueKey = "flight"),
        (className = "Tag", uniqueKey = "tag"),
      ],
      durableObjectStorage = (inMemory = void),
      cacheApiOutbound = "cache",
      globalOutbound = "backend",
    )),
    (name = "minimal", worker = (
      compatibilityDate = "2026-09-01",
      modules = [(name = "minimal.mjs", esModule = embed "minimal.mjs")],
      bindings = [(name = "MANIFESTS", kvNamespace = "kv")],
      globalOutbound = "backend",
    )),
    (name = "kv", worker = (
      compatibilityDate = "2026-09-01",
      modules = [(name = "kv.mjs", esModule = embed "kv.mjs")],
    )),
    (name = "cache", worker = (
      compatibilityDate = "2026-09-01",
      modules = [(name = "cache.mjs", esModule = embed "cache.mjs")],
    )),
    (name = "backend", worker = (
      compatibilityDate = "2026-09-01",
      modules = [(name = "backend.mjs", esModule = embed "backend.mjs")],
    )),
  ],
  sockets = [
    (name = "firn", address = "127.0.0.1:FIRN_PORT", http = (), service = "firn"),
    (name = "minimal", address = "127.0.0.1:MINIMAL_PORT", http = (), service = "minimal"),
  ],
);
