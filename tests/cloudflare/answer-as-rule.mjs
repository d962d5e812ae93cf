// Answers requests as the redirect rule would. Arguments: the registry's URL, the bucket's, and for each request
// `METHOD URL`. Prints a line for each: the Location, or `-` if the request goes on to the Worker.
import { redirectRule } from "../../edge/deploy/rules.mjs";
import { redirected } from "./redirect.mjs";

const [registry, blobs, ...requests] = process.argv.slice(2);
const { rule } = redirectRule(new URL(registry), new URL(blobs));
for (const request of requests) {
    const [method, url] = request.split(" ");
    process.stdout.write(`${redirected(rule, method, url)?.location ?? "-"}\n`);
}
