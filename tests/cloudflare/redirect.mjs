// What a redirect rule does with a request.
import { evaluate } from "./rules-language.mjs";

/** The rule's answer to a request, { status, location }; undefined if the request goes on to the Worker. */
export function redirected(rule, method, url) {
    const { hostname, pathname, search } = new URL(url);
    const request = { "http.host": hostname, "http.request.method": method, "http.request.uri.path": pathname };
    if (evaluate(rule.expression, request) !== true) return undefined;
    const { target_url, status_code, preserve_query_string } = rule.action_parameters.from_value;
    const location = evaluate(target_url.expression, request);
    return { status: status_code, location: preserve_query_string ? `${location}${search}` : location };
}
