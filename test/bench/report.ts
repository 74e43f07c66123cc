/** What a run measured: rows of figures per server, the targets of DESIGN section 9, and how both are printed. */

export interface Cell {
  /** Median of the rounds, in the row's unit. */
  median: number;
  rounds: number[];
  p50Ms?: number;
  p99Ms?: number;
  /** Highest resident memory of the server while it did this work, its start included. */
  peakRssBytes?: number;
}

export interface Target {
  text: string;
  /** undefined: not decided in this run, because a server or the full size was missing. */
  met: boolean | undefined;
}

export interface Row {
  work: string;
  unit: string;
  /** By server name. */
  cells: Record<string, Cell>;
  targets: Target[];
  notes: string[];
}

/** Median of at least one figure. */
export function median(figures: readonly number[]): number {
  const sorted = [...figures].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle];
  if (upper === undefined) throw new Error("no figure was measured");
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? upper)) / 2;
}

/** "at least `factor` times `other`", decided from two cells of the row. */
export function atLeast(cells: Row["cells"], factor: number, other: string, subject = "berth"): Target {
  const ours = cells[subject]?.median;
  const theirs = cells[other]?.median;
  const text = `≥ ${factor} × ${other}`;
  if (ours === undefined || theirs === undefined) return { text: `${text} (not run)`, met: undefined };
  return { text: `${text} (is ${(ours / theirs).toFixed(2)})`, met: ours >= factor * theirs };
}

/** "below `limit`", decided from one figure. */
export function below(what: string, figure: number | undefined, limit: number, unit: string): Target {
  const text = `${what} < ${limit} ${unit}`;
  if (figure === undefined) return { text: `${text} (not run)`, met: undefined };
  return { text: `${text} (is ${formatFigure(figure)})`, met: figure < limit };
}

/** The table for a terminal or a Markdown page: one line per row and server, targets and notes beneath. */
export function formatRows(rows: readonly Row[]): string {
  const lines = [
    "| work | server | median | rounds | p50 ms | p99 ms | peak RSS MB |",
    "| --- | --- | --- | --- | --- | --- | --- |",
  ];
  for (const row of rows) {
    for (const [server, cell] of Object.entries(row.cells)) {
      const columns = [
        row.work,
        server,
        `${formatFigure(cell.median)} ${row.unit}`,
        cell.rounds.map(formatFigure).join(" "),
        cell.p50Ms === undefined ? "" : cell.p50Ms.toFixed(2),
        cell.p99Ms === undefined ? "" : cell.p99Ms.toFixed(2),
        cell.peakRssBytes === undefined ? "" : (cell.peakRssBytes / 1e6).toFixed(0),
      ];
      lines.push(`| ${columns.join(" | ")} |`);
    }
  }
  lines.push("", "| work | to hold | met |", "| --- | --- | --- |");
  for (const row of rows) {
    for (const target of row.targets) {
      const met = target.met === undefined ? "not decided" : target.met ? "met" : "NOT MET";
      lines.push(`| ${row.work} | ${target.text} | ${met} |`);
    }
  }
  const notes = new Set(rows.flatMap((row) => row.notes.map((note) => `- ${row.work}: ${note}`)));
  return [...lines, "", ...notes].join("\n");
}

function formatFigure(figure: number): string {
  if (figure >= 100) return Math.round(figure).toLocaleString("en-US");
  return figure >= 10 ? figure.toFixed(1) : figure.toFixed(2);
}
