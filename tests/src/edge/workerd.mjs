// Starts one Worker in workerd through Miniflare, with the settings in the first argument. Prints its URL as a line.
// Ends on SIGTERM.
import { createRequire } from "node:module";
import { join } from "node:path";
import { readFileSync } from "node:fs";

const settings = JSON.parse(process.argv[2]);
// Node comes from the same npm tree as Miniflare: node_modules/node-…/bin/node.
const require = createRequire(join(process.execPath, "../../../"));
const { Miniflare, convertV4MiniflareOptions, Log, LogLevel } = require("miniflare");

const worker = { type: "ESModule", path: join(settings.build, "test-worker.mjs"), contents: settings.worker };
const miniflare = new Miniflare(
  convertV4MiniflareOptions({
    name: "firn",
    host: "127.0.0.1",
    port: 0,
    cf: false,
    log: new Log(LogLevel.WARN),
    resourcePersistencePath: settings.state,
    compatibilityDate: settings.compatibility_date,
    modulesRoot: settings.build,
    modules: [
      worker,
      { type: "ESModule", path: join(settings.build, "index.js") },
      { type: "CompiledWasm", path: join(settings.build, "index_bg.wasm") },
    ].map((module) => ({ ...module, contents: module.contents ?? readFileSync(module.path) })),
    bindings: settings.variables,
    kvNamespaces: settings.kv ? { MANIFESTS: "manifests" } : {},
    r2Buckets: { BLOBS: "blobs" },
    durableObjects: {
      ...(settings.flights ? { FLIGHTS: { className: "Flight", useSQLite: true } } : {}),
      ...(settings.tags ? { TAGS: { className: "Tag", useSQLite: true } } : {}),
      ...(settings.repositories ? { REPOSITORIES: { className: "Repository", useSQLite: true } } : {}),
    },
    ratelimits: Object.fromEntries(
      [
        ["LOOKUPS", settings.look_ups],
        ["MISSES", settings.misses],
      ]
        .filter(([, limit]) => limit)
        .map(([name, limit]) => [name, { namespace_id: name, simple: { limit, period: 60 } }]),
    ),
    analyticsEngineDatasets: { PULLS: { dataset: "test" } },
    cacheAPI: settings.cache,
  }),
);
console.log(String(await miniflare.ready));
process.on("SIGTERM", async () => {
  await miniflare.dispose();
  process.exit(0);
});
