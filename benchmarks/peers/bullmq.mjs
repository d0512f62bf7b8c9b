// Durable no-op jobs through BullMQ, one worker process: node bullmq.mjs REDIS_URL JOBS CONCURRENCY
import { Queue, Worker } from "bullmq";

const [, , url, jobs, concurrency] = process.argv;
const { hostname, port, password } = new URL(url);
const connection = { host: hostname, port: Number(port), password: decodeURIComponent(password), maxRetriesPerRequest: null };
const wanted = Number(jobs);
const queue = new Queue("benchmark", { connection });
await queue.obliterate({ force: true });

const began = performance.now();
for (let at = 0; at < wanted; at += 1000) {
  const pack = Array.from({ length: Math.min(1000, wanted - at) }, (_, n) => ({ name: "nothing", data: { n: at + n } }));
  await queue.addBulk(pack);
}
const begun = performance.now();

let done = 0;
await new Promise((resolve) => {
  const worker = new Worker("benchmark", async () => {}, { connection, concurrency: Number(concurrency) });
  worker.on("completed", () => {
    done += 1;
    if (done === wanted) resolve(worker.close());
  });
});
const carried = performance.now() - begun;
await queue.obliterate({ force: true });
await queue.close();
console.log(JSON.stringify({ begin: (begun - began) / 1000, carry: carried / 1000 }));
