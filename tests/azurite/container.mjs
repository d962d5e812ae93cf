// container.mjs ENDPOINT ACCOUNT KEY CONTAINER: creates a container, which clients of blob storage cannot do.
import { createHmac } from "node:crypto";

const [endpoint, account, key, container] = process.argv.slice(2);
const date = new Date().toUTCString();
const version = "2021-08-06";
const path = new URL(`${endpoint}/${container}`).pathname;
const signed = `PUT${"\n".repeat(12)}x-ms-date:${date}\nx-ms-version:${version}\n/${account}${path}\nrestype:container`;
const signature = createHmac("sha256", Buffer.from(key, "base64")).update(signed).digest("base64");
const answer = await fetch(`${endpoint}/${container}?restype=container`, {
  method: "PUT",
  headers: { "x-ms-date": date, "x-ms-version": version, authorization: `SharedKey ${account}:${signature}` },
});
if (answer.status !== 201) throw new Error(`${answer.status}: ${await answer.text()}`);
