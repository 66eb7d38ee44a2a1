// Reads an interval log as HdrHistogram's JavaScript port does, adds all of it up, and prints the port's percentile table:
// node table.mjs FILE.hlog VALUES_PER_UNIT
import hdr from "hdr-histogram-js";
import { readFileSync } from "node:fs";

const [file, valuesPerUnit] = process.argv.slice(2);
const text = readFileSync(file, "utf8");
const reader = new hdr.HistogramLogReader(text, 64);
const intervals = [];
for (let one = reader.nextIntervalHistogram(); one; one = reader.nextIntervalHistogram()) intervals.push(one);

const highestTrackableValue = Math.max(...intervals.map((one) => one.highestTrackableValue));
const sum = hdr.build({ bitBucketSize: 64, highestTrackableValue });
for (const one of intervals) sum.add(one);
// This port keeps the maximum as the lowest value of its bucket when it adds, where Java's getMaxValue and its own reader have
// the highest.
const read = hdr.decodeFromCompressedBase64(hdr.encodeIntoCompressedBase64(sum), 64);

const first = intervals[0];
console.error(JSON.stringify({
  tags: hdr.listTags(text),
  intervals: intervals.length,
  begin: first.startTimeStampMsec,
  end: first.endTimeStampMsec,
}));
process.stdout.write(read.outputPercentileDistribution(5, Number(valuesPerUnit)));
