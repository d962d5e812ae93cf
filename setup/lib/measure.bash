# Shared by the programs of `make bench`; setup/run takes a port from here. Source this after report.bash.

# The median of numbers, one a line.
median() { sort -g | awk '{ v[NR] = $1 } END { if (NR) print v[int((NR + 1) / 2)] }'; }

# A port that is free now.
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# compare TITLE UNIT FIRN PEER-NAME PEER [TARGET]: prints one result: both figures, measured in the same run, and
# Firn's divided by the peer's. TARGET is printed too, but missing it is not a failure: these are measurements.
compare() {
    awk -v title="$1" -v unit="$2" -v firn="$3" -v name="$4" -v peer="$5" -v target="${6:-}" 'BEGIN {
        form = (firn < 10 && peer < 10) ? "%.3f" : (firn < 100 ? "%.1f" : "%.0f")
        printf "%-40s firn " form " %s   %s " form " %s   ratio %.2f%s\n", title, firn, unit, name, peer, unit,
            firn / peer, target == "" ? "" : "   (target " target ")"
    }'
}

# figure TITLE UNIT VALUE [LIMIT]: prints one result that has no peer, with its limit.
figure() { printf '%-40s %s %s%s\n' "$1" "$3" "$2" "${4:+   (limit $4 $2)}"; }
