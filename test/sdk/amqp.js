// What azure-iothub and @azure/event-hubs do over AMQP, on its own port and
// over a WebSocket, against a hub with one device connected.
'use strict';

const assert = require('assert');
const iothub = require('azure-iothub');
const { Message, NoRetry } = require('azure-iot-common');
const { Client: DeviceClient, Message: DeviceMessage } = require('azure-iot-device');
const { Mqtt } = require('azure-iot-device-mqtt');
const { EventHubConsumerClient, earliestEventPosition, latestEventPosition } = require('@azure/event-hubs');
const rhea = require('rhea');
const WebSocket = require('ws');
const { Calls, until } = require('./calls');

const config = JSON.parse(process.argv[2]);
const registry = iothub.Registry.fromConnectionString(config.service);
let device;
const arrived = [];

async function connectDevice() {
  const created = await registry.create({ deviceId: 'amqp-1' });
  const key = (created.responseBody || created).authentication.symmetricKey.primaryKey;
  device = DeviceClient.fromConnectionString(`HostName=${config.hub};DeviceId=amqp-1;SharedAccessKey=${key}`, Mqtt);
  await device.open();
  device.on('message', (m) => { arrived.push(m); device.complete(m); });
  return key;
}

// Promises come with the result and the response in one object.
const result = (answer) => (answer && answer.result !== undefined ? answer.result : answer);

async function commands(calls, transport) {
  const client = iothub.Client.fromConnectionString(config.service, transport);
  await calls.run('Client.open', () => client.open());
  arrived.length = 0;
  let feedback;
  await calls.run('Client.getFeedbackReceiver', async () => { feedback = await client.getFeedbackReceiver(); feedback = result(feedback); });
  const told = [];
  feedback.on('message', (m) => told.push(m));
  const id = `c2d-${Date.now()}`;
  await calls.run('Client.send', async () => {
    const m = new Message(JSON.stringify({ open: true }));
    m.messageId = id; m.ack = 'full'; m.contentType = 'application/json'; m.contentEncoding = 'utf-8'; m.correlationId = 'why';
    m.expiryTimeUtc = Date.now() + 600000;
    m.properties.add('urgency', 'high & soon');
    await client.send('amqp-1', m);
    await until('the message arrives', () => arrived.length === 1);
    assert.strictEqual(arrived[0].getData().toString(), '{"open":true}');
    assert.strictEqual(arrived[0].messageId, id);
    assert.strictEqual(arrived[0].properties.getValue('urgency'), 'high & soon');
  });
  await calls.run('ServiceReceiver feedback', async () => {
    await until('the feedback arrives', () => told.length > 0);
    const records = JSON.parse(told[0].getData().toString());
    assert.strictEqual(records[0].originalMessageId, id);
    assert.strictEqual(records[0].statusCode, 'Success');
    assert.strictEqual(records[0].deviceId, 'amqp-1');
  });
  // The SDK settles what it hands over by itself; these calls must do no harm.
  await calls.run('ServiceReceiver.complete', () => feedback.complete(told[0]));
  await calls.run('ServiceReceiver feedback (negative)', async () => {
    const before = told.length;
    await registry.create({ deviceId: `deaf-${id}` });
    const m = new Message('nobody hears this');
    m.messageId = `${id}-2`; m.ack = 'negative';
    await client.send(`deaf-${id}`, m);
    await purge(`deaf-${id}`);
    await until('the feedback arrives', () => told.length > before);
    assert.strictEqual(JSON.parse(told[before].getData().toString())[0].statusCode, 'Purged');
  });
  await calls.refused('Client.send (unknown device)', 'DeviceNotFoundError', () => client.send('nobody', new Message('x')));
  await calls.refused('Client.send (too large)', 'MessageTooLargeError', () => client.send('amqp-1', new Message('x'.repeat(65537))));
  await calls.run('Client.send (many at once)', async () => {
    const texts = () => arrived.map((m) => m.getData().toString()).filter((text) => text.startsWith(`${id} many`));
    await Promise.all([...Array(40).keys()].map((i) => client.send('amqp-1', new Message(`${id} many ${i}`))));
    await until('all arrive', () => texts().length >= 40).catch((err) => { throw new Error(`${err.message}: ${texts().length} came`); });
    assert.strictEqual(new Set(texts()).size, 40);
  });
  await calls.run('Client.close', () => client.close());
}

// purge drops what waits for a device, as back ends do it: over HTTPS.
function purge(id) {
  const { SharedAccessSignature, ConnectionString } = require('azure-iot-common');
  const cs = ConnectionString.parse(config.service);
  const token = SharedAccessSignature.create(cs.HostName, cs.SharedAccessKeyName, cs.SharedAccessKey, Math.floor(Date.now() / 1000) + 600).toString();
  return new Promise((resolve, reject) => {
    const r = require('https').request({ host: cs.HostName, port: 443, method: 'DELETE', path: `/devices/${encodeURIComponent(id)}/commands?api-version=2021-04-12`, headers: { Authorization: token } }, (res) => {
      res.resume();
      if (res.statusCode === 200) resolve(); else reject(new Error(`purge: ${res.statusCode}`));
    });
    r.on('error', reject);
    r.end();
  });
}

async function queueDepth(calls) {
  const client = iothub.Client.fromConnectionString(config.service);
  await registry.create({ deviceId: 'deaf-1' });
  for (let i = 0; i < 50; i++) await client.send('deaf-1', new Message(`${i}`));
  await calls.refused('Client.send (queue full)', 'DeviceMaximumQueueDepthExceededError', () => client.send('deaf-1', new Message('one more')));
  await client.close();
}

async function notifications(calls, key) {
  const client = iothub.Client.fromConnectionString(config.service);
  let files;
  await calls.run('Client.getFileNotificationReceiver', async () => { files = await client.getFileNotificationReceiver(); files = result(files); });
  const told = [];
  files.on('message', (m) => told.push(m));
  await device.uploadToBlob('notes.txt', require('stream').Readable.from([Buffer.from('hello')]), 5);
  await calls.run('ServiceReceiver file notification', async () => {
    await until('it arrives', () => told.length > 0);
    const n = JSON.parse(told[0].getData().toString());
    assert.strictEqual(n.deviceId, 'amqp-1');
    assert.strictEqual(n.blobName, 'amqp-1/notes.txt');
    assert.strictEqual(n.blobSizeInBytes, 5);
    await files.complete(told[0]);
  });
  await client.close();
}

async function refusals(calls) {
  for (const [what, string] of [['wrong key', config.service.replace(/SharedAccessKey=.{8}/, 'SharedAccessKey=AAAAAAAA')], ['no right', config.registryRead]]) {
    await calls.run(`Client.open (${what})`, async () => {
      const client = iothub.Client.fromConnectionString(string);
      client.setRetryPolicy(new NoRetry());
      let failure;
      try { await client.open(); } catch (err) { failure = err; }
      assert.strictEqual(failure && failure.amqpError.name, 'UnauthorizedError', `${failure}`);
    });
  }
}

// collect reads events that matter until there are enough.
async function collect(client, startPosition, enough, matters) {
  const events = [];
  let failed;
  const subscription = client.subscribe({
    processEvents: async (batch) => { events.push(...batch.filter(matters)); },
    processError: async (err) => { failed = err; },
  }, { startPosition, maxWaitTimeInSeconds: 1 });
  try {
    await until(`${enough} events`, () => { if (failed) throw failed; return events.length >= enough; });
    return events;
  } finally {
    await subscription.close();
  }
}

async function events(calls, options) {
  const client = new EventHubConsumerClient('$Default', config.events, options);
  const batch = Date.now();
  const send = async (n) => {
    const m = new DeviceMessage(JSON.stringify({ n, batch }));
    m.contentType = 'application/json'; m.contentEncoding = 'utf-8'; m.messageId = `m-${n}`;
    m.properties.add('line', '7');
    await device.sendEvent(m);
  };
  const matters = (e) => e.body.batch === batch;
  const mine = (all) => all.filter(matters);
  for (let n = 0; n < 10; n++) await send(n);
  let partitions;
  await calls.run('EventHubConsumerClient.getPartitionIds', async () => {
    partitions = await client.getPartitionIds();
    assert.deepStrictEqual(partitions, ['0', '1', '2', '3']);
  });
  await calls.run('EventHubConsumerClient.getEventHubProperties', async () => {
    const p = await client.getEventHubProperties();
    assert.strictEqual(p.name, config.entity);
    assert(p.createdOn.getTime() > Date.now() - 86400000);
  });
  let own;
  await calls.run('EventHubConsumerClient.getPartitionProperties', async () => {
    const all = await Promise.all(partitions.map((id) => client.getPartitionProperties(id)));
    // One device has sent all there is, so only its partition has anything.
    const [full] = all.filter((p) => !p.isEmpty);
    assert.deepStrictEqual(all.filter((p) => p.isEmpty).map((p) => [p.lastEnqueuedSequenceNumber, p.lastEnqueuedOffset]), [[-1, '-1'], [-1, '-1'], [-1, '-1']]);
    assert(full.beginningSequenceNumber === 1 && full.lastEnqueuedSequenceNumber >= 10 && full.lastEnqueuedOffset === `${full.lastEnqueuedSequenceNumber}`, JSON.stringify(full));
    assert(full.lastEnqueuedOnUtc.getTime() > Date.now() - 3600000, JSON.stringify(full));
    own = full.partitionId;
  });
  await calls.run('EventHubConsumerClient.getPartitionProperties (unknown)', async () => {
    await assert.rejects(client.getPartitionProperties('9', { retryOptions: { maxRetries: 0 } }));
  });
  let all;
  await calls.run('EventHubConsumerClient.subscribe (earliest)', async () => {
    all = await collect(client, earliestEventPosition, 10, matters);
    assert.strictEqual(all.length, 10);
    const e = all[3];
    assert.strictEqual(e.body.n, 3);
    assert.strictEqual(e.properties.line, '7');
    assert.strictEqual(e.contentType, 'application/json');
    assert.strictEqual(e.messageId, 'm-3');
    assert.strictEqual(e.systemProperties['iothub-connection-device-id'], 'amqp-1');
    assert.strictEqual(e.systemProperties['iothub-message-source'], 'Telemetry');
    assert(e.systemProperties['iothub-enqueuedtime'] && e.enqueuedTimeUtc instanceof Date);
    assert(all.every((x, i) => i === 0 || x.sequenceNumber > all[i - 1].sequenceNumber));
  });
  const group = new EventHubConsumerClient('billing', config.events, options);
  await calls.run('subscribe (offset, another group)', async () => {
    const rest = await collect(group, { offset: all[6].offset }, 3, matters);
    assert.deepStrictEqual(rest.map((e) => e.body.n), [7, 8, 9]);
  });
  await calls.run('subscribe (sequence number, inclusive)', async () => {
    const rest = await collect(client, { sequenceNumber: all[6].sequenceNumber, isInclusive: true }, 4, matters);
    assert.deepStrictEqual(rest.map((e) => e.body.n), [6, 7, 8, 9]);
  });
  await calls.run('subscribe (enqueued time)', async () => {
    const rest = await collect(client, { enqueuedOn: new Date(all[0].enqueuedTimeUtc.getTime() - 1) }, 10, matters);
    assert.strictEqual(rest.length, 10);
  });
  await calls.run('subscribe (latest)', async () => {
    const got = [];
    const s = client.subscribe({ processEvents: async (b) => { got.push(...b); }, processError: async () => {} }, { startPosition: latestEventPosition, maxWaitTimeInSeconds: 1 });
    // Until the readers sit, what is sent is not yet theirs.
    let n = 100;
    await until('something new', async () => { await send(n++); return mine(got).length > 0; });
    assert(mine(got).every((e) => e.body.n >= 100));
    await s.close();
  });
  await calls.run('subscribe (large messages)', async () => {
    const m = new DeviceMessage(JSON.stringify({ n: -1, batch, filler: 'x'.repeat(200000) }));
    m.contentType = 'application/json'; m.contentEncoding = 'utf-8';
    const at = (await client.getPartitionProperties(own)).lastEnqueuedSequenceNumber;
    await device.sendEvent(m);
    const [e] = await collect(client, { sequenceNumber: at }, 1, (one) => one.body.n === -1);
    assert.strictEqual(e.body.filler.length, 200000);
  });
  await calls.run('EventHubConsumerClient.close', async () => { await client.close(); await group.close(); });
}

// A plain AMQP client gives the policy and its key for user and password, as to
// Event Hubs.
async function plainKey(calls) {
  const key = /SharedAccessKey=([^;]+)/.exec(config.service)[1];
  const login = (password) => new Promise((resolve, reject) => {
    const connection = rhea.create_container().connect({
      transport: 'tls', host: config.hub, hostname: config.hub, port: 5671, username: 'iothubowner', password, reconnect: false,
    });
    const failed = (context) => { connection.close(); reject(new Error(String(context.connection.error || 'refused'))); };
    connection.on('connection_error', failed);
    connection.on('disconnected', failed);
    connection.on('connection_open', () => connection.open_receiver({ source: { address: `${config.entity}/ConsumerGroups/plain/Partitions/0` }, credit_window: 0 }));
    connection.on('receiver_open', (context) => { connection.removeAllListeners('disconnected'); connection.close(); resolve(context.receiver.source.address); });
    connection.on('receiver_error', failed);
  });
  await calls.run('connect, open_receiver', () => login(key));
  await calls.run('connect (wrong key)', () => assert.rejects(login(Buffer.from('wrong').toString('base64'))));
}

async function main() {
  const key = await connectDevice();
  const plain = new Calls('azure-iothub (AMQP)');
  await commands(plain);
  await queueDepth(plain);
  await notifications(plain, key);
  await refusals(plain);
  const rheaCalls = new Calls('rhea (AMQP, user and key)');
  await plainKey(rheaCalls);
  const ws = new Calls('azure-iothub (AMQP over WebSocket)');
  await commands(ws, require('azure-iothub/dist/amqp_ws.js').AmqpWs);
  const hubs = new Calls('@azure/event-hubs');
  await events(hubs, {});
  const hubsWs = new Calls('@azure/event-hubs (WebSocket)');
  await events(hubsWs, { webSocketOptions: { webSocket: WebSocket } });
  await device.close();
  process.exit(plain.failed + rheaCalls.failed + ws.failed + hubs.failed + hubsWs.failed ? 1 : 0);
}

main().catch((err) => { process.stderr.write(`${err.stack}\n`); process.exit(1); });
