/** What the operator can change: it is told in its message, without a stack. */
export class Refusal extends Error {}
