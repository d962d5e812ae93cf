"""Fits the cost of a layer and of a megabyte for each client: fit.py SECONDS IMAGES

SECONDS has a line for each pull, `client point seconds`; IMAGES one for each point, `point layers bytes unpacked`.
Prints the medians, and for each client the least squares of seconds = start + layers × price + bytes ÷ throughput.
Errors are relative: each point counts as much as any other.
"""

import statistics
import sys

images = {}
for line in open(sys.argv[2]):
    point, layers, size, unpacked = line.split()
    images[point] = (int(layers), int(size) / 1e6, int(unpacked) / 1e6)
pulls = {}
for line in open(sys.argv[1]):
    client, point, seconds = line.split()
    pulls.setdefault(client, {}).setdefault(point, []).append(float(seconds))
medians = {c: {p: statistics.median(s) for p, s in points.items()} for c, points in pulls.items()}


def solve(matrix, vector):
    """Solves a small system of linear equations by elimination."""
    rows = [row + [value] for row, value in zip(matrix, vector)]
    for i in range(len(rows)):
        pivot = max(range(i, len(rows)), key=lambda j: abs(rows[j][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for j in range(len(rows)):
            if j != i:
                rows[j] = [a - rows[j][i] * b for a, b in zip(rows[j], rows[i])]
    return [row[-1] for row in rows]


def fit(points, column):
    """Returns start, price of a layer, seconds per megabyte, and the mean relative error."""
    rows = [([1.0, images[p][0], images[p][column]], s) for p, s in points.items()]
    weighted = [([x / s for x in row], 1.0) for row, s in rows]
    normal = [[sum(r[i] * r[j] for r, _ in weighted) for j in range(3)] for i in range(3)]
    answer = solve(normal, [sum(r[i] * y for r, y in weighted) for i in range(3)])
    errors = [abs(sum(a * x for a, x in zip(answer, row)) / s - 1) for row, s in rows]
    return answer, statistics.mean(errors)


print(f"{'image':40} layers     MB unpacked" + "".join(f"{client:>13}" for client in medians))
for point, (layers, size, unpacked) in images.items():
    cells = "".join(f"{medians[client][point]:11.2f} s" for client in medians)
    print(f"{point.split(':')[1]:40} {layers:6} {size:6.1f} {unpacked:8.1f}{cells}")
for client, points in medians.items():
    for column, what in ((1, "of the layers"), (2, "unpacked")):
        (start, price, megabyte), error = fit(points, column)
        print(
            f"{client:12} start {start:5.2f} s   layer {price * 1000:5.1f} ms   {1 / megabyte:6.1f} MB/s {what:13}"
            f"   mean error {error:.0%}"
        )
