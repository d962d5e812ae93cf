# Each Worker alone in a workerd, to measure how long it takes to start. `run` copies the modules beside this file and
# sets the port.
using Workerd = import "/workerd/workerd.capnp";

const firn :Workerd.Config = (
  services = [(name = "firn", worker = (
    compatibilityDate = "2026-09-01",
    modules = [
      (name = "index.js", esModule = embed "index.js"),
      (name = "index_bg.wasm", wasm = embed "index_bg.wasm"),
    ],
    bindings = [(name = "FIRN_BACKEND_URL", text = "http://backend"), (name = "FIRN_LOG", text = "none")],
  ))],
  sockets = [(name = "firn", address = "127.0.0.1:PORT", http = (), service = "firn")],
);

const minimal :Workerd.Config = (
  services = [(name = "minimal", worker = (
    compatibilityDate = "2026-09-01",
    modules = [(name = "minimal.mjs", esModule = embed "minimal.mjs")],
  ))],
  sockets = [(name = "minimal", address = "127.0.0.1:PORT", http = (), service = "minimal")],
);
