// A device with a TPM 2.0 registers over HTTPS with the unmodified SDK and
// speaks with its hub. The TPM is an emulator behind a socket; the package
// expects one in the machine, so its device is replaced by that socket.
'use strict';

const assert = require('assert');
const net = require('net');
const readline = require('readline');
const { Tpm } = require('tss.js');
const { TpmSecurityClient } = require('azure-iot-security-tpm');
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { Http } = require('azure-iot-provisioning-device-http');
const { Client, Message } = require('azure-iot-device');
const { Mqtt } = require('azure-iot-device-mqtt');
const { Calls } = require('./calls');

const config = JSON.parse(process.argv[2]);

class SocketDevice {
  connect(done) { this.socket = net.connect(config.tpm, () => done(null)); return null; }

  dispatchCommand(command, done) {
    let answer = Buffer.alloc(0);
    const collect = (chunk) => {
      answer = Buffer.concat([answer, chunk]);
      if (answer.length < 6 || answer.length < answer.readUInt32BE(2)) return;
      this.socket.removeListener('data', collect);
      done(null, answer);
    };
    this.socket.on('data', collect);
    this.socket.write(command);
  }

  close() { this.socket.end(); }
}

async function main() {
  const tpm = new Tpm(false);
  tpm.device = new SocketDevice();
  const security = new TpmSecurityClient(config.id, tpm);
  const calls = new Calls('azure-iot-security-tpm + azure-iot-provisioning-device-http');
  let ek;
  await calls.run('TpmSecurityClient.getEndorsementKey', async () => { ek = await new Promise((resolve, reject) => { security.getEndorsementKey((err, key) => (err ? reject(err) : resolve(key))); }); });
  console.log(`EK ${ek.toString('base64')}`);
  await new Promise((resolve) => readline.createInterface({ input: process.stdin }).once('line', resolve));
  let result;
  await calls.run('ProvisioningDeviceClient.register (TPM)', async () => {
    result = (await ProvisioningDeviceClient.create(config.provisioning, config.scope, new Http(), security).register()).registrationState;
    assert.strictEqual(result.deviceId, config.id);
  });
  await calls.run('TpmSecurityClient.signWithIdentity (token for the hub), Client.open, sendEvent', async () => {
    const resource = encodeURIComponent(`${result.assignedHub}/devices/${result.deviceId}`);
    const expiry = Math.floor(Date.now() / 1000) + 3600;
    const signature = await new Promise((resolve, reject) => { security.signWithIdentity(Buffer.from(`${resource}\n${expiry}`), (err, sig) => (err ? reject(err) : resolve(sig))); });
    const client = Client.fromSharedAccessSignature(`SharedAccessSignature sr=${resource}&sig=${encodeURIComponent(signature.toString('base64'))}&se=${expiry}`, Mqtt);
    await client.open();
    await client.sendEvent(new Message('signed inside the TPM'));
    await client.close();
  });
  await calls.run('ProvisioningDeviceClient.register (TPM, again)', async () => {
    const again = (await ProvisioningDeviceClient.create(config.provisioning, config.scope, new Http(), security).register()).registrationState;
    assert.strictEqual(again.assignedHub, result.assignedHub);
  });
  calls.end();
}

main().catch((err) => { process.stderr.write(`${err.stack}\n`); process.exit(1); });
