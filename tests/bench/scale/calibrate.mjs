// Prints, as JSON, what the design after does from when a tag moves until the end of the simulation. Arguments: how
// many locations and images, all pulled equally, and how many pulls a second there are. tests/planet compares this with
// the Worker.
import { After, END, MOVE, simulate } from "./tag.mjs";

const [locations, images, rate] = process.argv.slice(2).map(Number);
const { since } = simulate(After, { rate, locations, images, landed: 180, exponents: [0, 0] });
process.stdout.write(`${JSON.stringify({ ...since, seconds: END - MOVE })}\n`);
