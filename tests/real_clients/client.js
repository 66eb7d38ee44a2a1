// What a Node program does with an HTTP server: node client.js FILES-URL MIRROR-URL FILE-OF-STYLE.CSS
'use strict';
const assert = require('node:assert');
const fs = require('node:fs');
const http = require('node:http');
const [files, mirror, stylePath] = process.argv.slice(2);
const style = fs.readFileSync(stylePath, 'utf8');

const text = async (response) => {
  let all = '';
  for await (const piece of response.setEncoding('utf8')) all += piece;
  return all;
};

const request = (url, options, send = (request) => request.end()) =>
  new Promise((resolve, reject) => {
    const request = http.request(url, options, resolve);
    request.on('error', reject);
    send(request);
  });

async function fetches() {
  const response = await fetch(files + '/style.css');
  assert.strictEqual(response.status, 200);
  // whether or not it came compressed
  assert.strictEqual(await response.text(), style);
  assert.strictEqual(response.headers.get('vary'), 'Accept-Encoding');
  if (fs.existsSync(stylePath + '.gz')) assert.strictEqual(response.headers.get('content-encoding'), 'gzip');

  const index = await fetch(files + '/docs');
  assert.deepStrictEqual([index.redirected, index.url], [true, files + '/docs/']);
  await index.text();

  const head = await fetch(files + '/style.css', { method: 'HEAD' });
  assert.strictEqual(await head.text(), '');

  const missing = await fetch(files + '/nothing');
  assert.strictEqual(missing.status, 404);
  await missing.text();
}

async function fetchesInParallel() {
  const bodies = await Promise.all(
    Array.from({ length: 60 }, async () => (await fetch(files + '/style.css')).text()),
  );
  assert(bodies.every((body) => body === style));
}

async function reusesItsSockets() {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 2 });
  const ports = new Set();
  const one = async (path) => {
    const response = await request(files + path, { agent });
    ports.add(response.socket.localPort);
    assert.strictEqual(response.statusCode, 200);
    return text(response);
  };
  const bodies = await Promise.all(Array.from({ length: 200 }, (_, n) => one('/style.css?' + n)));
  assert(bodies.every((body) => body === style));
  assert.strictEqual(ports.size, 2);
  agent.destroy();
}

async function streamsWhatItSends() {
  const pieces = Array.from({ length: 90 }, (_, n) => String(n % 10).repeat(10_000));
  const response = await request(mirror + '/posted', { method: 'POST' }, async (request) => {
    for (const piece of pieces) {
      if (!request.write(piece)) await new Promise((resolve) => request.once('drain', resolve));
      await new Promise(setImmediate);
    }
    request.end();
  });
  const shown = `POST /posted 1.1\ncontent 900000 octets: ${'0'.repeat(64)}\n`;
  assert.strictEqual(await text(response), shown);

  const body = new ReadableStream({
    pull(controller) {
      const piece = pieces.shift();
      if (piece === undefined) controller.close();
      else controller.enqueue(Buffer.from(piece));
    },
  });
  const fetched = await fetch(mirror + '/posted', { method: 'POST', body, duplex: 'half' });
  assert.strictEqual(await fetched.text(), shown);
}

async function asksFirst() {
  let told = 0;
  const options = { method: 'PUT', headers: { Expect: '100-continue', 'Content-Length': 3 } };
  const response = await request(mirror + '/asked', options, (request) => {
    request.on('continue', () => { told += 1; request.end('abc'); });
    request.flushHeaders();
  });
  assert.strictEqual(await text(response), 'PUT /asked 1.1\ncontent 3 octets: abc\n');
  assert.strictEqual(told, 1);
}

async function readsStreams() {
  const whole = await (await fetch(mirror + '/stream?n=100&size=10000')).text();
  assert.strictEqual(whole.length, 1_000_000);
  await assert.rejects(async () => (await fetch(mirror + '/stream-broken')).text());
}

async function givesUp() {
  const abort = new AbortController();
  const response = await fetch(files + '/big', { signal: abort.signal });
  const reader = response.body.getReader();
  await reader.read();
  abort.abort();
  await assert.rejects(async () => { while (!(await reader.read()).done); });
}

(async () => {
  const all = [
    fetches, fetchesInParallel, reusesItsSockets, streamsWhatItSends, asksFirst, readsStreams, givesUp, fetches,
  ];
  for (const part of all) {
    await part().catch((error) => { console.error(part.name, error); process.exit(1); });
  }
  console.log('ok');
  process.exit(0);
})();
