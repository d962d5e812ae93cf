// Starts the world and all isolates in one workerd through Miniflare, with the settings in the first argument. Prints
// the world's URL as a line. Ends on SIGTERM.
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { readdirSync, readFileSync } from "node:fs";

const settings = JSON.parse(process.argv[2]);
// Node comes from the same npm tree as Miniflare: node_modules/node-…/bin/node.
const require = createRequire(join(process.execPath, "../../../"));
const { Miniflare, convertV4MiniflareOptions, Log, LogLevel } = require("miniflare");

const here = dirname(fileURLToPath(import.meta.url));
const esModule = (path, contents) => ({ type: "ESModule", path: join("/", path), contents });
const folder = (name) =>
  readdirSync(join(here, name)).map((file) => esModule(join(name, file), readFileSync(join(here, name, file), "utf8")));

// The Worker once for each life of an isolate, all with the same compiled Wasm.
const code = (settings.code ?? readFileSync(join(settings.build, "index.js"), "utf8")).replace('"./index_bg.wasm"', '"../index_bg.wasm"');
const wasm = { type: "CompiledWasm", path: "/index_bg.wasm", contents: readFileSync(join(settings.build, "index_bg.wasm")) };
const lives = Array.from({ length: settings.lives }, (_, life) => esModule(`life${life}/index.js`, code));
const classes = Object.values(settings.objects);
const objectClasses = [
  'import { Control, object } from "./isolate/object.mjs";',
  "export { Control };",
  ...classes.map((name) => `export const ${name} = object("${name}");`),
  'export default { fetch: () => new Response("no Worker", { status: 404 }) };',
].join("\n");

const services = settings.locations.flatMap(({ name: location, isolates }) =>
  Array.from({ length: isolates }, (_, number) => ({ location, service: `${location}-${number}` })),
);

const common = {
  compatibilityDate: settings.compatibility_date,
  compatibilityFlags: ["nodejs_als"],
  modulesRoot: "/",
  r2Buckets: { BLOBS: "blobs" },
};
const inWorld = {
  ...common,
  bindings: { SETTINGS: settings },
};
const hosts = Object.fromEntries(
  Object.entries(settings.hosts).map(([host, address]) => [`host ${host}`, { external: { address, http: {} } }]),
);
const isolate = {
  ...inWorld,
  serviceBindings: { WORLD: { name: "world", entrypoint: "World" }, ...hosts },
  durableObjects: Object.fromEntries(
    Object.entries(settings.objects).map(([binding, className]) => [binding, { className, scriptName: "objects", useSQLite: true }]),
  ),
};

const miniflare = new Miniflare(
  convertV4MiniflareOptions({
    host: "127.0.0.1",
    port: 0,
    cf: false,
    log: new Log(LogLevel.WARN),
    resourcePersistencePath: settings.state,
    workers: [
      {
        ...inWorld,
        name: "world",
        modules: [esModule("world.mjs", 'export { default, World } from "./world/index.mjs";'), ...folder("world")],
        serviceBindings: {
          "control objects": { name: "objects", entrypoint: "Control" },
          ...Object.fromEntries(services.flatMap(({ service }) => [
            [service, service],
            [`control ${service}`, { name: service, entrypoint: "Control" }],
          ])),
        },
      },
      {
        ...isolate,
        name: "objects",
        modules: [esModule("objects.mjs", objectClasses), ...folder("isolate").filter(({ path }) => !path.endsWith("/index.mjs")), ...lives, wasm],
      },
      ...services.map((place) => ({
        ...isolate,
        name: place.service,
        bindings: { ...isolate.bindings, PLACE: place },
        modules: [
          esModule("isolate.mjs", 'export { default, Control } from "./isolate/index.mjs";'),
          ...folder("isolate").filter(({ path }) => !path.endsWith("/object.mjs")),
          ...lives,
          wasm,
        ],
      })),
    ],
  }),
);
console.log(String(await miniflare.ready));
process.on("SIGTERM", async () => {
  await miniflare.dispose();
  process.exit(0);
});
