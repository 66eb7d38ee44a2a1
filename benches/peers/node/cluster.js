// Node's cluster as Node programs run it: workers share the primary's socket; on SIGHUP they are replaced one after the
// other; one that dies is replaced at once.
//
//     node cluster.js --port 8080 --threads 2
'use strict';
const cluster = require('node:cluster');
const http = require('node:http');
const { parseArgs } = require('node:util');

const ANSWER = 'hello, world\n';
const KEEP_ALIVE_MS = 75_000;
const KILL_TIMEOUT_MS = 5_000;

const { values } = parseArgs({ options: { port: { type: 'string' }, threads: { type: 'string', default: '1' } } });

if (cluster.isPrimary) primary(Number(values.threads));
else worker(Number(values.port));

function primary(threads) {
  // every worker accepts from its own copy of the socket: faster than the primary handing connections out
  cluster.schedulingPolicy = cluster.SCHED_NONE;
  const leaving = new Set();
  for (let count = 0; count < threads; count++) cluster.fork();
  cluster.on('exit', (old) => {
    // one that was asked to leave has its replacement already
    if (!leaving.delete(old.id)) cluster.fork();
  });
  let replacing = false;
  process.on('SIGHUP', async () => {
    if (replacing) return;
    replacing = true;
    for (const old of Object.values(cluster.workers)) await replace(old, leaving);
    replacing = false;
  });
  process.on('SIGTERM', () => {
    for (const old of Object.values(cluster.workers)) old.process.kill('SIGKILL');
    process.exit(0);
  });
}

// The old one goes when the new one listens.
function replace(old, leaving) {
  return new Promise((done) => {
    const next = cluster.fork();
    next.once('listening', () => {
      if (!old.isDead()) {
        leaving.add(old.id);
        old.send('drain', () => {});
        const timer = setTimeout(() => old.process.kill('SIGKILL'), KILL_TIMEOUT_MS);
        old.once('exit', () => clearTimeout(timer));
      }
      done();
    });
    next.once('exit', done);
  });
}

function worker(port) {
  let draining = false;
  const server = http.createServer((request, response) => {
    if (draining) response.setHeader('Connection', 'close');
    if (request.method === 'GET' && request.url === '/') {
      response.setHeader('Content-Type', 'text/plain; charset=utf-8');
      response.setHeader('Content-Length', ANSWER.length);
      response.end(ANSWER);
    } else if (request.method === 'POST' && (request.url === '/' || request.url === '/upload')) {
      count(request, response);
    } else {
      response.statusCode = 404;
      response.end();
    }
  });
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  server.listen({ port, host: '127.0.0.1', backlog: 4096 });
  process.on('message', (message) => {
    if (message !== 'drain') return;
    draining = true;
    // idle connections are closed at once, the others with their next answer
    server.close(() => cluster.worker.disconnect());
  });
}

function count(request, response) {
  let octets = 0;
  request.on('data', (piece) => { octets += piece.length; });
  request.on('end', () => response.end(String(octets)));
}
