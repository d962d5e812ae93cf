# The Worker in front of a real backend, without rate limits (workerd has none): measures the cost of a flood that the
# limits let through. `run` copies the modules beside this file and sets the ports.
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
        (name = "FIRN_BACKEND_URL", text = "http://127.0.0.1:BACKEND_PORT"),
        (name = "FIRN_BLOBS", text = "backend"),
        (name = "FIRN_LOG", text = "none"),
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
      globalOutbound = "outside",
    )),
    (name = "kv", worker = (
      compatibilityDate = "2026-09-01",
      modules = [(name = "kv.mjs", esModule = embed "kv.mjs")],
    )),
    (name = "cache", worker = (
      compatibilityDate = "2026-09-01",
      modules = [(name = "cache.mjs", esModule = embed "cache.mjs")],
    )),
    (name = "outside", network = (allow = ["private", "local"])),
  ],
  sockets = [(name = "firn", address = "127.0.0.1:FIRN_PORT", http = (), service = "firn")],
);
