/** A gauge whose figures are read anew when somebody scrapes, because they stand in the database or come from a store. */

import { Gauge, type Registry } from "prom-client";

/** What every process that shares the port sees alike is not summed. Labels without a figure now are gone. */
export function registerScrapedGauge<Label extends string>(
  registry: Registry,
  gauge: { readonly name: string; readonly help: string; readonly labelNames: readonly Label[] },
  read: () => Promise<readonly (readonly [labels: Record<Label, string>, amount: number])[]>,
): void {
  new Gauge({
    ...gauge,
    registers: [registry],
    aggregator: "max",
    async collect() {
      this.reset();
      for (const [labels, amount] of await read()) this.set(labels, amount);
    },
  });
}
