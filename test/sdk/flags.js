// Every call that the OpenFeature SDKs make of a flag server by OFREP: for
// servers one request an evaluation, for the web a bulk request and a stream.
// Arguments: a JSON object with the base URL and a token. Between steps it asks
// for flags to be changed, by lines that are no results, and waits to be told.
'use strict';

const assert = require('assert');
const readline = require('readline');
const { OpenFeature, ErrorCode } = require('@openfeature/server-sdk');
const { OFREPProvider } = require('@openfeature/ofrep-provider');
const web = require('@openfeature/web-sdk');
const { OFREPWebProvider } = require('@openfeature/ofrep-web-provider');
const { EventSource } = require('eventsource');
const { Calls, until } = require('./calls');

globalThis.EventSource = EventSource;

const config = JSON.parse(process.argv[2]);
const lines = readline.createInterface({ input: process.stdin });
const asked = [];
lines.on('line', () => asked.shift()());
const change = (what) => new Promise((resolve) => { asked.push(resolve); process.stdout.write(`${what}\n`); });

const anyone = { targetingKey: 'foo@bar.com', tier: 'gold', since: new Date(0) };

async function server() {
  const calls = new Calls('@openfeature/ofrep-provider');
  await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl: config.url, headers: [['Authorization', `Bearer ${config.token}`]] }));
  const client = OpenFeature.getClient();
  await calls.run('getBooleanDetails', async () => {
    const d = await client.getBooleanDetails('fast', true, anyone);
    assert.deepStrictEqual([d.value, d.variant, d.reason, d.flagMetadata.owner], [false, 'off', 'STATIC', 'ann']);
  });
  await calls.run('getStringDetails (fractional)', async () => {
    const d = await client.getStringDetails('headerColor', 'none', anyone);
    assert.deepStrictEqual([d.value, d.variant, d.reason], ['#0f0', 'green', 'TARGETING_MATCH']);
    const other = await client.getStringDetails('headerColor', 'none', { targetingKey: 'foo@test.com' });
    assert.strictEqual(other.variant, 'red');
  });
  await calls.run('getNumberDetails (targeting)', async () => {
    assert.strictEqual((await client.getNumberDetails('limit', 1, anyone)).value, 100);
    assert.strictEqual((await client.getNumberDetails('limit', 1, { targetingKey: 'x' })).value, 10);
  });
  await calls.run('getObjectDetails', async () => {
    assert.deepStrictEqual((await client.getObjectDetails('layout', {}, anyone)).value, { columns: 3 });
  });
  await calls.run('getBooleanDetails (disabled)', async () => {
    const d = await client.getBooleanDetails('dormant', true, anyone);
    assert.deepStrictEqual([d.value, d.reason, d.errorCode], [false, 'DISABLED', undefined]);
  });
  await calls.run('getBooleanDetails (unknown)', async () => {
    const d = await client.getBooleanDetails('no-such-flag', true, anyone);
    assert.deepStrictEqual([d.value, d.errorCode], [true, ErrorCode.FLAG_NOT_FOUND]);
  });
  await calls.run('getStringDetails (other type)', async () => {
    const d = await client.getStringDetails('fast', 'mine', anyone);
    assert.deepStrictEqual([d.value, d.errorCode], ['mine', ErrorCode.TYPE_MISMATCH]);
  });
  await calls.run('getBooleanDetails (unknown variant)', async () => {
    const d = await client.getBooleanDetails('broken', true, anyone);
    assert.deepStrictEqual([d.value, d.errorCode], [true, ErrorCode.GENERAL]);
  });
  await calls.run('getBooleanDetails (base URL with a slash)', async () => {
    await OpenFeature.setProviderAndWait('slash', new OFREPProvider({ baseUrl: `${config.url}/`, headers: [['X-API-Key', config.token]] }));
    assert.strictEqual((await OpenFeature.getClient('slash').getBooleanDetails('fast', true, anyone)).reason, 'STATIC');
  });
  await calls.run('getBooleanDetails (wrong token)', async () => {
    await OpenFeature.setProviderAndWait('wrong', new OFREPProvider({ baseUrl: config.url, headers: [['Authorization', 'Bearer slp_wrong']] }));
    const d = await OpenFeature.getClient('wrong').getBooleanDetails('fast', true, anyone);
    assert.strictEqual(d.value, true);
    assert(d.errorCode);
  });
  return calls;
}

async function browser() {
  const calls = new Calls('@openfeature/ofrep-web-provider');
  await calls.run('initialize (bulk)', async () => {
    await web.OpenFeature.setContext(anyone);
    await web.OpenFeature.setProviderAndWait(new OFREPWebProvider({ baseUrl: config.url, headers: [['Authorization', `Bearer ${config.token}`]] }));
  });
  const client = web.OpenFeature.getClient();
  await calls.run('getBooleanDetails', async () => {
    const d = client.getBooleanDetails('fast', true);
    assert.deepStrictEqual([d.value, d.variant, d.reason], [false, 'off', 'STATIC']);
    assert.strictEqual(client.getBooleanDetails('no-such-flag', true).errorCode, 'FLAG_NOT_FOUND');
  });
  await calls.run('onContextChange (same targetingKey)', async () => {
    await web.OpenFeature.setContext({ ...anyone, tier: 'none' });
    assert.strictEqual(client.getNumberDetails('limit', 1).value, 10);
    await web.OpenFeature.setContext(anyone);
    assert.strictEqual(client.getNumberDetails('limit', 1).value, 100);
  });
  await calls.run('onContextChange (new targetingKey)', async () => {
    await web.OpenFeature.setContext({ ...anyone, targetingKey: 'foo@test.com' });
    assert.strictEqual(client.getStringDetails('headerColor', '').variant, 'red');
    await web.OpenFeature.setContext(anyone);
  });
  await calls.run('event stream (a flag is switched)', async () => {
    let changed = 0;
    web.OpenFeature.addHandler(web.ProviderEvents.ConfigurationChanged, () => { changed += 1; });
    await change('switch');
    await until('the page hears of it', () => client.getBooleanDetails('fast', false).value === true);
    assert(changed > 0);
  });
  await calls.run('event stream (a kill switch)', async () => {
    await change('kill');
    await until('the page hears of it', () => {
      const d = client.getBooleanDetails('fast', true);
      return d.value === false && d.flagMetadata.killed === true;
    });
  });
  await calls.run('event stream (the server is killed and comes back)', async () => {
    await change('restart');
    await until('the page hears of what was changed then', () => client.getNumberDetails('limit', 1).value === 1000);
  });
  await web.OpenFeature.close();
  return calls;
}

(async () => {
  const all = [await server(), await browser()];
  await OpenFeature.close();
  process.exit(all.some((c) => c.failed) ? 1 : 0);
})();
