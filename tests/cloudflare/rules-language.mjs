// Evaluates the part of Cloudflare's Rules language that Firn's rules use, as the documentation describes it
// (developers.cloudflare.com/ruleset-engine/rules-language). It is stricter than Cloudflare: unknown names, wrong
// types, literals where a field is due, and indexes outside of a text are errors, not false.

const FIELDS = {
    "http.host": "string",
    "http.request.method": "string",
    "http.request.uri.path": "string",
};
// name: [type of the result, types of the arguments, how many may be left out, what it does]. A `field` is a string
// that depends on the request; `string` may also be a literal.
const FUNCTIONS = {
    concat: ["string", undefined, 0, (...texts) => texts.join("")],
    ends_with: ["boolean", ["field", "literal"], 0, (text, end) => text.endsWith(end)],
    len: ["integer", ["field"], 0, (text) => Buffer.byteLength(text)],
    lower: ["string", ["field"], 0, (text) => text.replaceAll(/[A-Z]/g, (letter) => letter.toLowerCase())],
    remove_bytes: ["string", ["field", "literal"], 0, removeBytes],
    starts_with: ["boolean", ["field", "literal"], 0, (text, start) => text.startsWith(start)],
    substring: ["string", ["field", "integer", "integer"], 1, substring],
};
const COMPARISONS = {
    eq: (a, b) => a === b,
    ne: (a, b) => a !== b,
    ge: (a, b) => a >= b,
    gt: (a, b) => a > b,
    le: (a, b) => a <= b,
    lt: (a, b) => a < b,
};
// Cloudflare refuses longer ones.
const LONGEST = 4096;

/** The value of an expression for a request, a map from fields to texts. */
export function evaluate(expression, request) {
    for (const [field, value] of Object.entries(request)) {
        if (!(field in FIELDS)) throw new Error(`not a field: ${field}`);
        // Cloudflare counts bytes. Paths of requests are ASCII.
        if (!/^[\x20-\x7e]*$/.test(value)) throw new Error(`not printable ASCII: ${value}`);
    }
    return compile(expression)(request);
}

/** Whether an expression is of the language, and what type it has. */
export function typeOf(expression) {
    return compile(expression).type;
}

function compile(expression) {
    if (expression.length > LONGEST) throw new Error(`longer than ${LONGEST} characters`);
    const parser = { words: words(expression), at: 0 };
    const whole = disjunction(parser);
    if (parser.at !== parser.words.length) throw new Error(`unexpected: ${parser.words[parser.at]}`);
    const run = (request) => whole.run(request);
    run.type = whole.type;
    return run;
}

function words(text) {
    const found = [...text.matchAll(/\s*("(?:[^"\\]|\\["\\])*"|-?\d+|[a-z][a-z0-9_.]*|[(),])/gy)];
    const length = found.reduce((sum, [whole]) => sum + whole.length, 0);
    if (length !== text.trimEnd().length) throw new Error(`not of the language: ${text.slice(length)}`);
    return found.map(([, word]) => word);
}

function take(parser, ...expected) {
    const word = parser.words[parser.at];
    if (!expected.includes(word)) return undefined;
    parser.at += 1;
    return word;
}

function must(parser, word) {
    if (!take(parser, word)) throw new Error(`${word} expected, not ${parser.words[parser.at]}`);
}

function disjunction(parser) {
    return chain(parser, "or", conjunction, (parts, request) => parts.some((part) => part.run(request)));
}

function conjunction(parser) {
    return chain(parser, "and", negation, (parts, request) => parts.every((part) => part.run(request)));
}

function chain(parser, word, inner, combine) {
    const parts = [inner(parser)];
    while (take(parser, word)) parts.push(inner(parser));
    if (parts.length === 1) return parts[0];
    const other = parts.find((part) => part.type !== "boolean");
    if (other) throw new Error(`${word} combines truths, not a ${other.type}`);
    return { type: "boolean", run: (request) => combine(parts, request) };
}

function negation(parser) {
    if (!take(parser, "not")) return comparison(parser);
    const inner = negation(parser);
    if (inner.type !== "boolean") throw new Error(`not a truth: ${inner.type}`);
    return { type: "boolean", run: (request) => !inner.run(request) };
}

function comparison(parser) {
    if (take(parser, "(")) {
        const inner = disjunction(parser);
        must(parser, ")");
        return inner;
    }
    const left = value(parser);
    const operator = take(parser, ...Object.keys(COMPARISONS));
    if (!operator) return left;
    const right = value(parser);
    if (left.literal || !right.literal) throw new Error("a field is compared with a literal, in this order");
    if (left.type !== right.type) throw new Error(`a ${left.type} is compared with a ${right.type}`);
    return { type: "boolean", run: (request) => COMPARISONS[operator](left.run(request), right.run(request)) };
}

function value(parser) {
    const word = parser.words[parser.at++];
    if (word === undefined) throw new Error("a value expected at the end");
    if (word.startsWith('"')) {
        const text = word.slice(1, -1).replaceAll(/\\(.)/g, "$1");
        return { type: "string", literal: true, run: () => text };
    }
    if (/^-?\d+$/.test(word)) return { type: "integer", literal: true, run: () => Number(word) };
    if (word in FIELDS) return { type: FIELDS[word], run: (request) => given(request, word) };
    if (!(word in FUNCTIONS)) throw new Error(`neither a field nor a function: ${word}`);
    const [type, types, optional, action] = FUNCTIONS[word];
    must(parser, "(");
    const taken = [value(parser)];
    while (take(parser, ",")) taken.push(value(parser));
    must(parser, ")");
    const kinds = types ?? taken.map(() => "string");
    if (taken.length > kinds.length || taken.length < kinds.length - optional) throw new Error(`arguments of ${word}`);
    taken.forEach((argument, i) => {
        const kind = ["field", "literal"].includes(kinds[i]) ? "string" : kinds[i];
        if (argument.type !== kind) throw new Error(`argument ${i + 1} of ${word} is a ${argument.type}`);
        if (kinds[i] === "field" && argument.literal) throw new Error(`argument ${i + 1} of ${word} is a literal`);
        if (kinds[i] === "literal" && !argument.literal) throw new Error(`argument ${i + 1} of ${word} is no literal`);
    });
    return { type, run: (request) => action(...taken.map((argument) => argument.run(request))) };
}

function given(request, field) {
    if (request[field] === undefined) throw new Error(`the request has no ${field}`);
    return request[field];
}

function removeBytes(text, bytes) {
    return [...text].filter((byte) => !bytes.includes(byte)).join("");
}

function substring(text, start, end = text.length) {
    const index = (i) => (i < 0 ? text.length + i : i);
    if (index(start) < 0 || index(end) > text.length || index(start) > index(end)) {
        throw new Error(`substring(${JSON.stringify(text)}, ${start}, ${end}) is outside of the text`);
    }
    return text.slice(index(start), index(end));
}
