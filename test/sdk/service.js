// Every call that azure-iothub makes over HTTPS, against a hub with one device
// connected. Arguments: a JSON object with the connection string, and the
// device's connection string for its own part.
'use strict';

const assert = require('assert');
const iothub = require('azure-iothub');
const { Client: DeviceClient, ModuleClient } = require('azure-iot-device');
const { Mqtt } = require('azure-iot-device-mqtt');
const { Calls, until } = require('./calls');

const config = JSON.parse(process.argv[2]);
const calls = new Calls('azure-iothub');
const registry = iothub.Registry.fromConnectionString(config.service);
const client = iothub.Client.fromConnectionString(config.service);
const jobs = iothub.JobClient.fromConnectionString(config.service);

const deviceString = (id, key) => `HostName=${config.hub};DeviceId=${id};SharedAccessKey=${key}`;
// Promises come with the body and the response in one object.
const body = (answer) => {
  if (answer && answer.responseBody !== undefined) return answer.responseBody;
  if (answer && answer.result !== undefined && answer.message !== undefined) return answer.result;
  if (answer && answer.jobStatus !== undefined) return answer.jobStatus;
  return answer;
};

async function identities() {
  await calls.run('Registry.create', async () => {
    const d = body(await registry.create({ deviceId: 'svc-1', status: 'enabled' }));
    assert(d.authentication.symmetricKey.primaryKey && d.generationId && d.etag);
  });
  await calls.refused('Registry.create (exists)', 'DeviceAlreadyExistsError', () => registry.create({ deviceId: 'svc-1' }));
  await calls.run('Registry.create (odd id)', async () => { await registry.create({ deviceId: "odd %id+'1".replace(' ', '') }); });
  await calls.run('Registry.get', async () => {
    const d = body(await registry.get('svc-1'));
    assert.strictEqual(d.connectionState, 'Disconnected');
    assert.strictEqual(d.authentication.type, 'sas');
  });
  await calls.refused('Registry.get (unknown)', 'DeviceNotFoundError', () => registry.get('nobody'));
  await calls.run('Registry.update', async () => {
    const d = body(await registry.update({ deviceId: 'svc-1', status: 'disabled', statusReason: 'in repair' }));
    assert.strictEqual(d.status, 'disabled');
    await registry.update({ deviceId: 'svc-1', status: 'enabled' });
  });
  await calls.run('Registry.list', async () => {
    const all = body(await registry.list());
    assert(all.some((d) => d.deviceId === 'svc-1'));
  });
  await calls.run('Registry.addDevices', async () => {
    const r = body(await registry.addDevices([{ deviceId: 'bulk-1' }, { deviceId: 'bulk-2' }, { deviceId: 'bulk-3' }]));
    assert(r.isSuccessful, JSON.stringify(r));
  });
  await calls.run('Registry.addDevices (one exists)', async () => {
    let failure = null;
    try { await registry.addDevices([{ deviceId: 'bulk-1' }, { deviceId: 'bulk-4' }]); } catch (err) { failure = err; }
    assert(failure, 'it did not fail');
    await registry.get('bulk-4');
  });
  await calls.run('Registry.updateDevices', async () => {
    const r = body(await registry.updateDevices([{ deviceId: 'bulk-1', status: 'disabled' }], true));
    assert(r.isSuccessful);
    assert.strictEqual(body(await registry.get('bulk-1')).status, 'disabled');
  });
  await calls.run('Registry.removeDevices', async () => {
    const r = body(await registry.removeDevices([{ deviceId: 'bulk-2' }, { deviceId: 'bulk-4' }], true));
    assert(r.isSuccessful);
  });
  await calls.refused('Registry.get (removed)', 'DeviceNotFoundError', () => registry.get('bulk-2'));
  await calls.run('Registry.getRegistryStatistics', async () => {
    const s = body(await registry.getRegistryStatistics());
    assert(s.totalDeviceCount >= 4 && s.disabledDeviceCount === 1, JSON.stringify(s));
  });
}

async function modules() {
  await calls.run('Registry.addModule', async () => {
    const m = body(await registry.addModule({ deviceId: 'svc-1', moduleId: 'm1' }));
    assert(m.authentication.symmetricKey.primaryKey);
  });
  await calls.run('Registry.addModule (exists)', async () => {
    await assert.rejects(() => registry.addModule({ deviceId: 'svc-1', moduleId: 'm1' }));
  });
  await calls.run('Registry.getModule', async () => { assert.strictEqual(body(await registry.getModule('svc-1', 'm1')).moduleId, 'm1'); });
  await calls.run('Registry.getModulesOnDevice', async () => { assert.strictEqual(body(await registry.getModulesOnDevice('svc-1')).length, 1); });
  await calls.run('Registry.updateModule', async () => {
    const found = body(await registry.getModule('svc-1', 'm1'));
    assert.strictEqual(body(await registry.updateModule({ ...found, managedBy: 'me' })).managedBy, 'me');
  });
  await calls.refused('Registry.updateModule (stale etag)', 'InvalidEtagError', async () => {
    await registry.updateModule({ ...body(await registry.getModule('svc-1', 'm1')), etag: 'bm8=' });
  });
  await calls.run('Registry.updateModuleTwin', async () => {
    const t = body(await registry.updateModuleTwin('svc-1', 'm1', { tags: { a: 1 }, properties: { desired: { speed: 3 } } }, '*'));
    assert.strictEqual(t.moduleId, 'm1');
    assert.strictEqual(body(await registry.getModuleTwin('svc-1', 'm1')).properties.desired.speed, 3);
  });
  const keys = body(await registry.getModule('svc-1', 'm1')).authentication.symmetricKey;
  const module = ModuleClient.fromConnectionString(`HostName=${config.hub};DeviceId=svc-1;ModuleId=m1;SharedAccessKey=${keys.primaryKey}`, Mqtt);
  await calls.run('ModuleClient.open', async () => { await module.open(); });
  await calls.run('ModuleClient.getTwin', async () => {
    const twin = await module.getTwin();
    assert.strictEqual(twin.properties.desired.speed, 3);
    await new Promise((resolve, reject) => twin.properties.reported.update({ ok: true }, (err) => (err ? reject(err) : resolve())));
    assert.strictEqual(body(await registry.getModuleTwin('svc-1', 'm1')).properties.reported.ok, true);
  });
  await calls.run('Client.invokeModuleMethod', async () => {
    await new Promise((resolve) => { module.onMethod('ping', (request, response) => response.send(202, { pong: request.payload })); setTimeout(resolve, 0); });
    const r = await until('the module answers', async () => {
      try { return body(await client.invokeDeviceMethod('svc-1', 'm1', { methodName: 'ping', payload: 7, responseTimeoutInSeconds: 15, connectTimeoutInSeconds: 5 })); } catch (err) { return null; }
    });
    assert.deepStrictEqual([r.result ? r.result.status : r.status, (r.result || r).payload.pong], [202, 7]);
  });
  await calls.run('ModuleClient.sendOutputEvent', async () => {
    const { Message } = require('azure-iot-device');
    await module.sendEvent(new Message('from a module'));
  });
  await module.close();
  await calls.run('Registry.removeModule', async () => { await registry.removeModule('svc-1', 'm1'); });
  await calls.run('Registry.getModule (removed)', async () => { await assert.rejects(() => registry.getModule('svc-1', 'm1')); });
}

async function twins() {
  await calls.run('Registry.getTwin', async () => {
    const t = body(await registry.getTwin('svc-1'));
    assert.strictEqual(t.deviceId, 'svc-1');
    assert.strictEqual(t.authenticationType, 'sas');
  });
  await calls.run('Registry.updateTwin', async () => {
    const before = body(await registry.getTwin('svc-1'));
    const t = body(await registry.updateTwin('svc-1', { tags: { site: 'north' }, properties: { desired: { every: 5 } } }, before.etag));
    assert.strictEqual(t.tags.site, 'north');
    assert(t.etag !== before.etag);
  });
  await calls.refused('Registry.updateTwin (stale etag)', 'InvalidEtagError', () => registry.updateTwin('svc-1', { tags: { site: 'x' } }, 'bm8='));
  await calls.run('Twin.update', async () => {
    const t = body(await registry.getTwin('svc-1'));
    const r = body(await t.update({ tags: { line: 7 } }));
    assert.deepStrictEqual(r.tags, { site: 'north', line: 7 });
  });
  await calls.run('Twin.get', async () => { const t = body(await registry.getTwin('svc-1')); assert.strictEqual(body(await t.get()).tags.line, 7); });
  await calls.run('Twin.update (null clears)', async () => {
    const t = body(await registry.updateTwin('svc-1', { tags: null, properties: { desired: null } }, '*'));
    assert.deepStrictEqual(t.tags, {});
  });
  await calls.run('Twin.replace', async () => {
    const r = body(await registry.getTwin('svc-1'));
    await new Promise((resolve, reject) => r._registry.updateTwin
      ? registry.updateTwin('svc-1', { tags: { site: 'south', n: 3 } }, '*', (err) => (err ? reject(err) : resolve()))
      : resolve());
  });
  await calls.refused('Registry.getTwin (unknown)', 'DeviceNotFoundError', () => registry.getTwin('nobody'));
}

async function queries() {
  for (let i = 0; i < 5; i += 1) {
    await registry.create({ deviceId: `q-${i}` });
    await registry.updateTwin(`q-${i}`, { tags: { fleet: 'q', n: i } }, '*');
  }
  await calls.run('Query.nextAsTwin', async () => {
    const query = registry.createQuery("SELECT * FROM devices WHERE tags.fleet = 'q'", 2);
    const ids = [];
    while (query.hasMoreResults) { for (const t of body(await query.nextAsTwin())) ids.push(t.deviceId); }
    assert.deepStrictEqual(ids, ['q-0', 'q-1', 'q-2', 'q-3', 'q-4']);
  });
  await calls.run('Query.next (callback)', async () => {
    const query = registry.createQuery("SELECT deviceId, tags.n AS n FROM devices WHERE tags.fleet = 'q' AND tags.n >= 3", 10);
    const rows = await new Promise((resolve, reject) => query.next((err, result) => (err ? reject(err) : resolve(result))));
    assert.deepStrictEqual(rows, [{ deviceId: 'q-3', n: 3 }, { deviceId: 'q-4', n: 4 }]);
  });
  await calls.run('Query (aggregate)', async () => {
    const rows = body(await registry.createQuery("SELECT tags.fleet AS fleet, COUNT() AS total, AVG(tags.n) AS mean FROM devices WHERE IS_DEFINED(tags.fleet) GROUP BY tags.fleet").next());
    assert.deepStrictEqual(rows, [{ fleet: 'q', mean: 2, total: 5 }]);
  });
  await calls.refused('Query (malformed)', 'ArgumentError', () => registry.createQuery('SELECT * FROM nowhere').next());
}

async function methods() {
  const key = body(await registry.get('svc-1')).authentication.symmetricKey.primaryKey;
  await calls.run('Client.invokeDeviceMethod (offline)', async () => {
    let failure = null;
    try { await client.invokeDeviceMethod('svc-1', { methodName: 'echo', payload: null, responseTimeoutInSeconds: 5 }); } catch (err) { failure = err; }
    assert(failure && failure.name === 'DeviceNotFoundError' || failure && /404|Not found|NotOnline/.test(String(failure)), String(failure));
  });
  const device = DeviceClient.fromConnectionString(deviceString('svc-1', key), Mqtt);
  await device.open();
  device.onDeviceMethod('echo', (request, response) => response.send(200, { got: request.payload }));
  for (const payload of [null, '', 'foo', {}, { a: [1] }]) {
    await calls.run(`Client.invokeDeviceMethod (${JSON.stringify(payload)})`, async () => {
      const r = await until('the device answers', async () => {
        try { return body(await client.invokeDeviceMethod('svc-1', { methodName: 'echo', payload, responseTimeoutInSeconds: 10, connectTimeoutInSeconds: 5 })); } catch (err) { return null; }
      });
      const result = r.result || r;
      assert.strictEqual(result.status, 200);
      assert.deepStrictEqual(result.payload.got, payload);
    });
  }
  await calls.run('Registry.get (connected)', async () => { assert.strictEqual(body(await registry.get('svc-1')).connectionState, 'Connected'); });
  await calls.run('JobClient.scheduleDeviceMethod', async () => {
    await jobs.scheduleDeviceMethod('job-method', "deviceId IN ['svc-1']", { methodName: 'echo', payload: { job: 1 }, responseTimeoutInSeconds: 10 }, new Date(), 60);
    const done = await until('the job ends', async () => { const j = body(await jobs.getJob('job-method')); return j.status === 'completed' && j; });
    assert.strictEqual(done.deviceJobStatistics.succeededCount, 1);
  });
  await calls.run('Registry.update (disable cuts)', async () => {
    await registry.update({ deviceId: 'svc-1', status: 'disabled' });
    await until('the device is gone', async () => body(await registry.get('svc-1')).connectionState === 'Disconnected');
    await registry.update({ deviceId: 'svc-1', status: 'enabled' });
  });
  // The device's own client would try to come back for four minutes; the driver's end ends it.
}

async function scheduled() {
  await calls.run('JobClient.scheduleTwinUpdate', async () => {
    const queued = body(await jobs.scheduleTwinUpdate('job-twin', "tags.fleet = 'q'", { etag: '*', tags: { seen: true }, properties: { desired: { interval: 9 } } }, new Date(), 60));
    assert.strictEqual(queued.status, 'queued');
    const done = await until('the job ends', async () => { const j = body(await jobs.getJob('job-twin')); return j.status === 'completed' && j; });
    assert.deepStrictEqual([done.deviceJobStatistics.deviceCount, done.deviceJobStatistics.succeededCount], [5, 5]);
    assert.strictEqual(body(await registry.getTwin('q-3')).properties.desired.interval, 9);
  });
  await calls.run('JobClient.createQuery', async () => {
    const rows = await new Promise((resolve, reject) => jobs.createQuery('scheduleUpdateTwin', 'completed').next((err, r) => (err ? reject(err) : resolve(r))));
    assert(rows.some((j) => j.jobId === 'job-twin'));
  });
  await calls.run('Query (devices.jobs)', async () => {
    const rows = body(await registry.createQuery("SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'job-twin' AND devices.jobs.status = 'completed'").next());
    assert.strictEqual(rows.length, 5);
  });
  await calls.run('JobClient.cancelJob', async () => {
    await jobs.scheduleTwinUpdate('job-late', '*', { tags: { never: true } }, new Date(Date.now() + 3600000), 60);
    const cancelled = body(await jobs.cancelJob('job-late'));
    assert.strictEqual(cancelled.status, 'cancelled');
  });
  await calls.run('JobClient.getJob (unknown)', async () => { await assert.rejects(() => jobs.getJob('nothing')); });
}

async function configurations() {
  const configuration = {
    id: 'interval', schemaVersion: '1.0', labels: { team: 'a' }, priority: 5, targetCondition: "tags.fleet = 'q' AND tags.n < 2",
    content: { deviceContent: { 'properties.desired.settings.rate': 10 } },
    metrics: { queries: { slow: "SELECT deviceId FROM devices WHERE tags.fleet = 'q'" } },
  };
  const rateOf = async (id) => { const s = body(await registry.getTwin(id)).properties.desired.settings; return s && s.rate; };
  await calls.run('Registry.addConfiguration', async () => {
    await registry.addConfiguration(configuration);
    await until('the configuration is applied', async () => await rateOf('q-0') === 10 && await rateOf('q-1') === 10);
    assert.strictEqual(await rateOf('q-2'), undefined);
  });
  await calls.run('Registry.getConfiguration', async () => {
    const c = await until('the metrics are there', async () => { const found = body(await registry.getConfiguration('interval')); return found.systemMetrics.results.appliedCount === 2 && found; });
    assert.strictEqual(c.metrics.results.slow, 5);
  });
  await calls.run('Registry.getConfigurations', async () => { assert.strictEqual(body(await registry.getConfigurations()).length, 1); });
  await calls.run('Query (configurations.[[id]].status)', async () => {
    const rows = body(await registry.createQuery("SELECT deviceId FROM devices WHERE configurations.[[interval]].status = 'Applied'").next());
    assert.deepStrictEqual(rows, [{ deviceId: 'q-0' }, { deviceId: 'q-1' }]);
  });
  await calls.run('Registry.addConfiguration (higher priority wins)', async () => {
    await registry.addConfiguration({ ...configuration, id: 'faster', priority: 9, targetCondition: "deviceId = 'q-1'", content: { deviceContent: { 'properties.desired.settings.rate': 1 } } });
    await until('it wins', async () => await rateOf('q-1') === 1);
    assert.strictEqual(await rateOf('q-0'), 10);
  });
  await calls.run('Registry.updateConfiguration', async () => {
    const c = body(await registry.getConfiguration('interval'));
    c.targetCondition = "deviceId = 'q-1'";
    await registry.updateConfiguration(c);
    await until('a device that left lost its settings', async () => await rateOf('q-0') === undefined);
  });
  await calls.run('Registry.removeConfiguration', async () => {
    await registry.removeConfiguration('faster');
    await until('the next one applies', async () => await rateOf('q-1') === 10);
    await registry.removeConfiguration('interval');
    await until('nothing is left', async () => await rateOf('q-1') === undefined);
  });
  await calls.run('Registry.applyConfigurationContentOnDevice', async () => {
    await registry.create({ deviceId: 'gateway', capabilities: { iotEdge: true } });
    await registry.applyConfigurationContentOnDevice('gateway', { modulesContent: { $edgeAgent: { 'properties.desired': { schemaVersion: '1.1' } } } });
    assert.strictEqual(body(await registry.getModuleTwin('gateway', '$edgeAgent')).properties.desired.schemaVersion, '1.1');
  });
}

async function digitalTwins() {
  const twins = new iothub.DigitalTwinClient(new iothub.IoTHubTokenCredentials(config.service));
  const made = body(await registry.create({ deviceId: 'pnp-1' }));
  const device = DeviceClient.fromConnectionString(deviceString('pnp-1', made.authentication.symmetricKey.primaryKey), Mqtt);
  await device.setOptions({ modelId: 'dtmi:com:example:Controller;1' });
  await device.open();
  const own = await device.getTwin();
  await new Promise((resolve, reject) => own.properties.reported.update({
    serial: 'a-1', thermostat1: { __t: 'c', max: 25.3, target: { value: 20, ac: 200, av: 1, ad: 'as asked' } },
  }, (err) => (err ? reject(err) : resolve())));
  let etag;
  await calls.run('DigitalTwinClient.getDigitalTwin', async () => {
    await until('the model is known', async () => (await twins.getDigitalTwin('pnp-1')).$metadata.$model === 'dtmi:com:example:Controller;1');
    const t = await twins.getDigitalTwin('pnp-1');
    etag = t.eTag;
    assert.strictEqual(t.$dtId, 'pnp-1');
    assert.strictEqual(t.serial, 'a-1');
    assert(t.$metadata.serial.lastUpdateTime);
    assert.deepStrictEqual([t.thermostat1.max, t.thermostat1.target, t.thermostat1.$metadata.target.ackCode, t.thermostat1.$metadata.target.ackDescription], [25.3, 20, 200, 'as asked']);
  });
  await calls.run('DigitalTwinClient.updateDigitalTwin', async () => {
    await twins.updateDigitalTwin('pnp-1', [{ op: 'add', path: '/interval', value: 5 }, { op: 'replace', path: '/thermostat1/target', value: 21.5 }], etag);
    const t = body(await registry.getTwin('pnp-1'));
    assert.strictEqual(t.properties.desired.interval, 5);
    assert.deepStrictEqual(t.properties.desired.thermostat1, { __t: 'c', target: 21.5 });
    const seen = await twins.getDigitalTwin('pnp-1');
    assert.deepStrictEqual([seen.$metadata.interval.desiredValue, seen.thermostat1.$metadata.target.desiredValue, seen.thermostat1.target], [5, 21.5, 20]);
  });
  await calls.run('DigitalTwinClient.updateDigitalTwin (stale etag)', async () => { await assert.rejects(() => twins.updateDigitalTwin('pnp-1', [{ op: 'remove', path: '/interval' }], '"b2xk"')); });
  for (const name of ['reboot', 'thermostat1*report']) device.onDeviceMethod(name, (request, response) => response.send(202, { asked: request.payload }));
  await calls.run('DigitalTwinClient.invokeCommand', async () => {
    const r = await twins.invokeCommand('pnp-1', 'reboot', { in: 3 }, { connectTimeoutInSeconds: 10, responseTimeoutInSeconds: 20 });
    assert.deepStrictEqual([r.body.asked, Number(r.xMsCommandStatuscode)], [{ in: 3 }, 202], JSON.stringify(r));
  });
  await calls.run('DigitalTwinClient.invokeComponentCommand', async () => {
    const r = await twins.invokeComponentCommand('pnp-1', 'thermostat1', 'report', '2026-01-01', { connectTimeoutInSeconds: 10, responseTimeoutInSeconds: 20 });
    assert.strictEqual(r.body.asked, '2026-01-01');
  });
  await device.close();
}

// storage is a container of blobs that wants its token, as storage services do.
async function storage() {
  const files = new Map();
  const server = require('http').createServer((req, res) => {
    const url = new URL(req.url, 'http://storage');
    const name = url.pathname.replace('/box/', '');
    const parts = [];
    req.on('data', (part) => parts.push(part));
    req.on('end', () => {
      if (url.searchParams.get('sig') !== 'a secret') res.writeHead(403);
      else if (req.method === 'PUT' && req.headers['x-ms-blob-type'] === 'BlockBlob') { files.set(name, Buffer.concat(parts).toString()); res.writeHead(201); }
      else if (req.method === 'GET' && files.has(name)) res.write(files.get(name));
      else res.writeHead(404);
      res.end();
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { files, address: `http://127.0.0.1:${server.address().port}/box?sv=2024&sig=a%20secret` };
}

async function transfers() {
  const { files, address } = await storage();
  const lines = (name) => files.get(name).trim().split('\n').map((line) => JSON.parse(line));
  const ended = async (job) => {
    let now = job;
    await until('the job ends', async () => { now = body(await registry.getJob(job.jobId)); return !['enqueued', 'running'].includes(now.status); });
    return now;
  };
  const { symmetricKey } = body(await registry.get('q-0')).authentication;
  await calls.run('Registry.exportDevicesToBlob', async () => {
    const job = await ended(body(await registry.exportDevicesToBlob(address, false)));
    assert.deepStrictEqual([job.type, job.status, job.progress], ['export', 'completed', 100], JSON.stringify(job));
    assert(!JSON.stringify(job).includes('secret'));
    assert.deepStrictEqual(lines('devices.txt').find((d) => d.id === 'q-0').authentication.symmetricKey, symmetricKey);
    assert(lines('devices.txt').some((d) => d.moduleId));
  });
  await calls.run('Registry.importDevicesFromBlob', async () => {
    files.set('devices.txt', [
      { id: 'in-1', importMode: 'create', tags: { batch: 7 }, properties: { desired: { rate: 3 } } },
      { id: 'in-1', moduleId: 'm', importMode: 'create' },
      { id: 'in-2', importMode: 'create', status: 'disabled' },
      { id: 'in-2', importMode: 'delete' },
      { id: 'in-3', importMode: 'conquer' },
      { id: 'in-1', importMode: 'create' },
      ...lines('devices.txt').filter((d) => d.id === 'q-0' && !d.moduleId),
    ].map((line) => JSON.stringify(line)).join('\r\n') + '\n{"id":');
    const job = await ended(body(await registry.importDevicesFromBlob(address, address)));
    assert.deepStrictEqual([job.status, job.processedCount, job.failedCount], ['completed', 8, 3], JSON.stringify(job));
    assert.deepStrictEqual(lines('importErrors.log').map((e) => e.line), [5, 6, 8]);
    const t = body(await registry.getTwin('in-1'));
    assert.deepStrictEqual([t.tags.batch, t.properties.desired.rate], [7, 3]);
    assert.strictEqual(body(await registry.getModulesOnDevice('in-1')).length, 1);
    await assert.rejects(() => registry.get('in-2'));
    assert.deepStrictEqual(body(await registry.get('q-0')).authentication.symmetricKey, symmetricKey);
  });
  await calls.run('Registry.exportDevicesToBlob (without keys)', async () => {
    await ended(body(await registry.exportDevicesToBlob(address, true)));
    assert(lines('devices.txt').every((d) => d.authentication.symmetricKey.primaryKey === null));
  });
  await calls.run('Registry.exportDevicesToBlob (wrong token)', async () => {
    const job = await ended(body(await registry.exportDevicesToBlob(address.replace('secret', 'guess'), true)));
    assert.strictEqual(job.status, 'failed');
    assert.match(job.failureReason, /403/);
    assert(!job.failureReason.includes('guess'));
  });
  await calls.run('Registry.exportDevicesToBlob (not https)', async () => { await assert.rejects(() => registry.exportDevicesToBlob('http://example.org/box', true)); });
  await calls.run('Registry.exportDevicesToBlobByIdentity (refused)', async () => { await assert.rejects(() => registry.exportDevicesToBlobByIdentity('https://example.org/box', true)); });
  await calls.run('Registry.listJobs', async () => {
    const all = body(await registry.listJobs());
    assert.deepStrictEqual(all.map((j) => j.type), ['export', 'export', 'import', 'export']);
    await calls.run('Registry.cancelJob', async () => { assert.strictEqual(body(await registry.cancelJob(all[0].jobId)).status, 'failed'); }); // it has ended
  });
  await calls.run('Registry.getJob (unknown)', async () => { await assert.rejects(() => registry.getJob('nothing')); });
}

(async () => {
  await identities();
  await twins();
  await modules();
  await queries();
  await scheduled();
  await configurations();
  await methods();
  await transfers();
  await digitalTwins();
  await calls.run('Registry.delete', async () => { await registry.delete('svc-1'); });
  await calls.refused('Registry.delete (unknown)', 'DeviceNotFoundError', () => registry.delete('svc-1'));
  await calls.refused('Registry (wrong key)', 'UnauthorizedError', () => iothub.Registry.fromConnectionString(config.service.replace(/SharedAccessKey=.*/, 'SharedAccessKey=bm9ib2R5bm9ib2R5bm9ib2R5bm8=')).list());
  await calls.refused('Registry (policy without the right)', 'UnauthorizedError', () => iothub.Registry.fromConnectionString(config.registryRead).create({ deviceId: 'x' }));
  calls.end();
})().catch((err) => { calls.tell('driver', String(err && err.stack)); process.exit(2); });
