# What every setup script prints: one line when it starts work, one when it is done or cannot be.
# Sourced, after `tool` has been set to the name that stands before each line.

# Work that takes noticeable time is about to start.
say() { printf '%s: %s\n' "${tool:?}" "$*" >&2; }

# The tool is usable now; the last line of a successful script.
ready() { printf '%s: ready (%s)\n' "${tool:?}" "$*" >&2; }

# Says what is missing and how to get it, and ends the script.
fail() {
    printf '%s: error: %s\n' "${tool:?}" "$*" >&2
    exit 1
}
