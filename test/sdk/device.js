// A device on the unmodified SDKs, driven line by line: JSON commands on
// standard input, JSON events on standard output. It does what firmware does:
// ask provisioning where it belongs, connect there, and when the hub does not
// take it any more, ask again. Given a hub it asks nobody, as firmware with a
// connection string of its own.
'use strict';

const readline = require('readline');
const { Client, Message } = require('azure-iot-device');
const { Mqtt } = require('azure-iot-device-mqtt');
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');
const { X509Security } = require('azure-iot-security-x509');

const config = JSON.parse(process.argv[2]);
const Transport = config.transport === 'http'
  ? require('azure-iot-provisioning-device-http').Http
  : require('azure-iot-provisioning-device-mqtt').Mqtt;

let client = null;
let twin = null;

function tell(event) { process.stdout.write(JSON.stringify(event) + '\n'); }

function security() {
  if (config.key) return new SymmetricKeySecurityClient(config.id, config.key);
  return new X509Security(config.id, { cert: config.cert, key: config.certKey });
}

async function register() {
  const provisioning = ProvisioningDeviceClient.create(config.provisioning, config.scope, new Transport(), security());
  const result = await provisioning.register();
  tell({ event: 'assigned', hub: result.assignedHub, deviceId: result.deviceId });
  return result;
}

function connectionString(assigned) {
  const base = `HostName=${assigned.assignedHub};DeviceId=${assigned.deviceId};`;
  return config.key ? base + `SharedAccessKey=${config.key}` : base + 'x509=true';
}

async function connect() {
  const assigned = config.hub ? { assignedHub: config.hub, deviceId: config.id } : await register();
  client = Client.fromConnectionString(connectionString(assigned), Mqtt);
  if (!config.key) await client.setOptions({ cert: config.cert, key: config.certKey });
  client.on('disconnect', (err) => { tell({ event: 'disconnect', error: err && err.name }); });
  client.on('error', (err) => tell({ event: 'error', error: String(err) }));
  client.on('message', (msg) => {
    client.complete(msg, () => tell({ event: 'message', body: msg.getData().toString(), id: msg.messageId, properties: msg.properties.propertyList }));
  });
  client.onDeviceMethod('echo', (request, response) => {
    response.send(200, { echoed: request.payload }, (err) => { if (err) tell({ event: 'error', error: String(err) }); });
  });
  await client.open();
  twin = await client.getTwin();
  twin.on('properties.desired', (delta) => tell({ event: 'desired', delta }));
  tell({ event: 'connected', hub: assigned.assignedHub });
}

// again asks provisioning anew after a hub has refused the device.
async function again() {
  if (client) { client.removeAllListeners(); try { await client.close(); } catch (err) { /* it is gone already */ } }
  await connect();
}

const commands = {
  connect,
  again,
  async send({ body, properties, contentType }) {
    const message = new Message(body);
    if (contentType) { message.contentType = contentType; message.contentEncoding = 'utf-8'; }
    for (const [key, value] of Object.entries(properties || {})) message.properties.add(key, value);
    await client.sendEvent(message);
  },
  async report({ patch }) {
    await new Promise((resolve, reject) => twin.properties.reported.update(patch, (err) => (err ? reject(err) : resolve())));
  },
  async twin() {
    const fresh = await client.getTwin();
    tell({ event: 'twin', desired: fresh.properties.desired, reported: JSON.parse(JSON.stringify(fresh.properties.reported)) });
  },
  async quit() { process.exit(0); },
};

process.on('unhandledRejection', (err) => tell({ event: 'unhandled', error: String(err) }));

readline.createInterface({ input: process.stdin }).on('line', async (line) => {
  const command = JSON.parse(line);
  try {
    await commands[command.do](command);
    tell({ event: 'done', do: command.do });
  } catch (err) {
    tell({ event: 'failed', do: command.do, error: err.name, message: err.message });
  }
});
