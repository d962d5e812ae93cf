# What every setup script prints: one line when it starts work, and one when it has succeeded or failed. Source this
# after setting `tool` to the name that precedes each line.

# Work that takes a noticeable time starts.
say() { printf '%s: %s\n' "${tool:?}" "$*" >&2; }

# The tool can be used now. The last line of a successful script.
ready() { printf '%s: ready (%s)\n' "${tool:?}" "$*" >&2; }

# Prints what is missing and how to get it, and ends the script.
fail() {
    printf '%s: error: %s\n' "${tool:?}" "$*" >&2
    exit 1
}
