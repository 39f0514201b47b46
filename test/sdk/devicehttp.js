// Every call that azure-iot-device makes over HTTPS and over MQTT in a
// WebSocket, and its file upload, against a hub.
'use strict';

const assert = require('assert');
const crypto = require('crypto');
const fs = require('fs');
const os = require('os');
const path = require('path');
const iothub = require('azure-iothub');
const { Client, Message } = require('azure-iot-device');
const { Http } = require('azure-iot-device-http');
const { Mqtt, MqttWs } = require('azure-iot-device-mqtt');
const { Calls, until } = require('./calls');

const config = JSON.parse(process.argv[2]);
const registry = iothub.Registry.fromConnectionString(config.service);

async function overHttp(key) {
  const calls = new Calls('azure-iot-device-http');
  const client = Client.fromConnectionString(`HostName=${config.host};DeviceId=web-1;SharedAccessKey=${key}`, Http);
  await calls.run('Client.open', async () => { await client.open(); });
  await calls.run('Client.sendEvent', async () => {
    const m = new Message('{"t":1}');
    m.messageId = 'm-1'; m.correlationId = 'c-1'; m.contentType = 'application/json'; m.contentEncoding = 'utf-8';
    m.properties.add('line', 'seven & more');
    await client.sendEvent(m);
  });
  await calls.run('Client.sendEventBatch', async () => {
    const all = ['one', 'two', 'three'].map((text) => { const m = new Message(text); m.properties.add('n', text); return m; });
    await client.sendEventBatch(all);
  });
  await calls.refused('Client.sendEvent (too large)', 'MessageTooLargeError', () => client.sendEvent(new Message(Buffer.alloc(262145))));
  const received = [];
  client.on('message', (m) => received.push(m));
  const next = () => until('a message comes', async () => received.shift());
  process.stdout.write('READY for c2d\n');
  await calls.run('Client.on(message), complete', async () => {
    const m = await next();
    assert.strictEqual(m.getData().toString(), 'first');
    assert.strictEqual(m.messageId, 'c2d-1');
    assert.strictEqual(m.properties.getValue('iothub-app-k'), 'v');
    await client.complete(m);
  });
  // One poll fetches everything that waits, so an abandoned message comes last.
  const [second, third] = [await next(), await next()];
  await calls.run('Client.reject', async () => {
    assert.strictEqual(third.getData().toString(), 'third');
    await client.reject(third);
  });
  await calls.run('Client.abandon', async () => {
    assert.strictEqual(second.getData().toString(), 'second');
    await client.abandon(second);
    const again = await next();
    assert.strictEqual(again.getData().toString(), 'second');
    await client.complete(again);
  });
  await calls.run('Client.close', async () => { await client.close(); });
  await calls.refused('Client.sendEvent (wrong key)', 'UnauthorizedError', () => {
    const stranger = Client.fromConnectionString(`HostName=${config.host};DeviceId=web-1;SharedAccessKey=${Buffer.alloc(32).toString('base64')}`, Http);
    return stranger.sendEvent(new Message('x'));
  });
  await calls.refused('Client.sendEvent (unknown device)', 'DeviceNotFoundError', () => {
    const stranger = Client.fromConnectionString(`HostName=${config.host};DeviceId=nobody;SharedAccessKey=${key}`, Http);
    return stranger.sendEvent(new Message('x'));
  });
  return calls.failed;
}

async function overWebSocket(key) {
  const calls = new Calls('azure-iot-device-mqtt (WebSocket)');
  const client = Client.fromConnectionString(`HostName=${config.host};DeviceId=web-1;SharedAccessKey=${key}`, MqttWs);
  await calls.run('Client.open', async () => { await client.open(); });
  await calls.run('Client.sendEvent', async () => { await client.sendEvent(new Message('over a WebSocket')); });
  await calls.run('Client.sendEvent (200 KB)', async () => { await client.sendEvent(new Message(Buffer.alloc(200 * 1024, 1))); });
  await calls.run('Client.getTwin', async () => {
    const twin = await client.getTwin();
    await new Promise((resolve, reject) => twin.properties.reported.update({ ws: true }, (err) => (err ? reject(err) : resolve())));
    assert.strictEqual((await registry.getTwin('web-1')).responseBody.properties.reported.ws, true);
  });
  await calls.run('Client.close', async () => { await client.close(); });
  return calls.failed;
}

async function upload(key) {
  const calls = new Calls('azure-iot-device (uploadToBlob)');
  for (const [name, size] of [['small.bin', 10], ['deep/er/large file.bin', 9 * 1024 * 1024]]) {
    await calls.run(`Client.uploadToBlob (${size} bytes)`, async () => {
      const client = Client.fromConnectionString(`HostName=${config.host};DeviceId=web-1;SharedAccessKey=${key}`, Mqtt);
      const file = path.join(os.tmpdir(), `slipway-upload-${process.pid}-${size}`);
      const content = crypto.randomBytes(size);
      fs.writeFileSync(file, content);
      await client.uploadToBlob(name, fs.createReadStream(file), size);
      fs.unlinkSync(file);
      process.stdout.write(`UPLOADED ${JSON.stringify({ name, sha: crypto.createHash('sha256').update(content).digest('hex') })}\n`);
    });
  }
  return calls.failed;
}

(async () => {
  const device = (await registry.create({ deviceId: 'web-1' })).responseBody;
  const key = device.authentication.symmetricKey.primaryKey;
  let failed = await overHttp(key);
  failed += await overWebSocket(key);
  failed += await upload(key);
  process.exit(failed ? 1 : 0);
})().catch((err) => { new Calls('driver').tell('driver', String(err && err.stack)); process.exit(2); });
