// Every call that azure-iot-provisioning-service makes.
'use strict';

const assert = require('assert');
const { ProvisioningServiceClient } = require('azure-iot-provisioning-service');
const { Calls } = require('./calls');

const config = JSON.parse(process.argv[2]);
const calls = new Calls('azure-iot-provisioning-service');
const client = ProvisioningServiceClient.fromConnectionString(config.service);
const body = (answer) => (answer && answer.responseBody !== undefined ? answer.responseBody : answer);

async function individuals() {
  const enrollment = {
    registrationId: 'ind-1', deviceId: 'device-1', attestation: { type: 'symmetricKey' },
    initialTwin: { tags: { site: 'north' }, properties: { desired: { every: 5 } } },
    optionalDeviceInformation: { serial: 'A-1' }, iotHubHostName: config.hub, capabilities: { iotEdge: false },
    reprovisionPolicy: { updateHubAssignment: true, migrateDeviceData: false },
  };
  let stored = null;
  await calls.run('createOrUpdateIndividualEnrollment (create)', async () => {
    stored = body(await client.createOrUpdateIndividualEnrollment(enrollment));
    assert.deepStrictEqual([stored.registrationId, stored.deviceId, stored.provisioningStatus, stored.allocationPolicy], ['ind-1', 'device-1', 'enabled', 'hashed']);
    assert.deepStrictEqual(stored.initialTwin, enrollment.initialTwin);
    assert.deepStrictEqual(stored.optionalDeviceInformation, { serial: 'A-1' });
    assert.deepStrictEqual(stored.reprovisionPolicy, enrollment.reprovisionPolicy);
    assert.strictEqual(stored.iotHubHostName, config.hub);
    assert.strictEqual(stored.attestation.symmetricKey, undefined);
  });
  await calls.run('createOrUpdateIndividualEnrollment (exists)', async () => { await assert.rejects(() => client.createOrUpdateIndividualEnrollment(enrollment)); });
  await calls.run('createOrUpdateIndividualEnrollment (update)', async () => {
    const changed = body(await client.createOrUpdateIndividualEnrollment({ ...stored, provisioningStatus: 'disabled' }));
    assert.strictEqual(changed.provisioningStatus, 'disabled');
    assert.notStrictEqual(changed.etag, stored.etag);
  });
  await calls.run('createOrUpdateIndividualEnrollment (stale etag)', async () => { await assert.rejects(() => client.createOrUpdateIndividualEnrollment(stored)); });
  await calls.run('getIndividualEnrollment', async () => {
    stored = body(await client.getIndividualEnrollment('ind-1'));
    assert.strictEqual(stored.provisioningStatus, 'disabled');
  });
  await calls.run('getIndividualEnrollmentAttestationMechanism', async () => {
    const mechanism = body(await client.getIndividualEnrollmentAttestationMechanism('ind-1'));
    assert.strictEqual(Buffer.from(mechanism.symmetricKey.primaryKey, 'base64').length, 64);
  });
  for (const [form, text] of Object.entries(config.certificates)) {
    await calls.run(`createOrUpdateIndividualEnrollment (certificate as ${form})`, async () => {
      const made = body(await client.createOrUpdateIndividualEnrollment({
        registrationId: `x509-${form}`, attestation: { type: 'x509', x509: { clientCertificates: { primary: { certificate: text } } } },
      }));
      assert(made.attestation.x509.clientCertificates.primary.info.sha256Thumbprint);
    });
  }
  await calls.run('createOrUpdateIndividualEnrollment (broken certificate)', async () => {
    await assert.rejects(() => client.createOrUpdateIndividualEnrollment({ registrationId: 'x509-bad', attestation: { type: 'x509', x509: { clientCertificates: { primary: { certificate: 'nonsense' } } } } }));
  });
  await calls.run('createIndividualEnrollmentQuery', async () => {
    const query = client.createIndividualEnrollmentQuery({ query: 'SELECT * FROM enrollments' }, 2);
    const names = [];
    do {
      names.push(...await new Promise((resolve, reject) => query.next((err, rows) => (err ? reject(err) : resolve(rows)))));
    } while (query.hasMoreResults);
    assert.deepStrictEqual(names.map((e) => e.registrationId).sort(), ['ind-1', 'x509-base64DER', 'x509-base64PEM', 'x509-PEM'].sort());
  });
  await calls.run('runBulkEnrollmentOperation', async () => {
    const run = (operation) => new Promise((resolve, reject) => client.runBulkEnrollmentOperation(operation, (err, result) => (err ? reject(err) : resolve(result))));
    const made = await run({ mode: 'create', enrollments: [{ registrationId: 'bulk-1', attestation: { type: 'symmetricKey' } }, { registrationId: 'bulk-2', attestation: { type: 'symmetricKey' } }] });
    assert(made.isSuccessful);
    const again = await run({ mode: 'create', enrollments: [{ registrationId: 'bulk-1', attestation: { type: 'symmetricKey' } }, { registrationId: 'bulk-3', attestation: { type: 'symmetricKey' } }] });
    assert.deepStrictEqual([again.isSuccessful, again.errors.length, again.errors[0].registrationId], [false, 1, 'bulk-1']);
    assert((await run({ mode: 'delete', enrollments: [{ registrationId: 'bulk-1' }, { registrationId: 'bulk-2' }, { registrationId: 'bulk-3' }] })).isSuccessful);
  });
  await calls.run('deleteIndividualEnrollment', async () => { await client.deleteIndividualEnrollment('ind-1'); });
  await calls.run('getIndividualEnrollment (deleted)', async () => { await assert.rejects(() => client.getIndividualEnrollment('ind-1')); });
}

async function groups() {
  let stored = null;
  await calls.run('createOrUpdateEnrollmentGroup (create)', async () => {
    stored = body(await client.createOrUpdateEnrollmentGroup({ enrollmentGroupId: 'grp-1', attestation: { type: 'symmetricKey', symmetricKey: { primaryKey: config.key, secondaryKey: config.key } } }));
    assert.strictEqual(stored.enrollmentGroupId, 'grp-1');
  });
  await calls.run('createOrUpdateEnrollmentGroup (CA)', async () => {
    const made = body(await client.createOrUpdateEnrollmentGroup({ enrollmentGroupId: 'grp-ca', attestation: { type: 'x509', x509: { signingCertificates: { primary: { certificate: config.ca } } } }, iotHubs: [config.hub], allocationPolicy: 'static' }));
    assert(made.attestation.x509.signingCertificates.primary.info.subjectName);
    assert.strictEqual(made.allocationPolicy, 'static');
  });
  await calls.run('createOrUpdateEnrollmentGroup (caReferences, unknown)', async () => {
    await assert.rejects(() => client.createOrUpdateEnrollmentGroup({ enrollmentGroupId: 'grp-ref', attestation: { type: 'x509', x509: { caReferences: { primary: 'nobody' } } } }));
  });
  await calls.run('createOrUpdateEnrollmentGroup (caReferences)', async () => {
    const made = body(await client.createOrUpdateEnrollmentGroup({ enrollmentGroupId: 'grp-ref', attestation: { type: 'x509', x509: { caReferences: { primary: config.authority } } } }));
    assert.deepStrictEqual(made.attestation.x509, { caReferences: { primary: config.authority } });
    await client.deleteEnrollmentGroup('grp-ref');
  });
  await calls.run('getEnrollmentGroup', async () => { stored = body(await client.getEnrollmentGroup('grp-1')); });
  await calls.run('getEnrollmentGroupAttestationMechanism', async () => {
    assert.strictEqual(body(await client.getEnrollmentGroupAttestationMechanism('grp-1')).symmetricKey.primaryKey, config.key);
  });
  await calls.run('createEnrollmentGroupQuery', async () => {
    const query = client.createEnrollmentGroupQuery({ query: 'SELECT * FROM enrollmentGroups' }, 10);
    const rows = await new Promise((resolve, reject) => query.next((err, found) => (err ? reject(err) : resolve(found))));
    assert.strictEqual(rows.length, 2);
  });
}

async function registrations() {
  // The driver's caller registers "member-1" of grp-1 now.
  process.stdout.write('READY for a registration\n');
  await new Promise((resolve) => process.stdin.once('data', resolve));
  await calls.run('getDeviceRegistrationState', async () => {
    const state = body(await client.getDeviceRegistrationState('member-1'));
    assert.deepStrictEqual([state.status, state.deviceId, state.symmetricKey.enrollmentGroupId], ['assigned', 'member-1', 'grp-1']);
  });
  await calls.run('createEnrollmentGroupDeviceRegistrationStateQuery', async () => {
    const query = client.createEnrollmentGroupDeviceRegistrationStateQuery({ query: 'SELECT * FROM enrollmentGroups' }, 'grp-1', 10);
    const rows = await new Promise((resolve, reject) => query.next((err, found) => (err ? reject(err) : resolve(found))));
    assert.deepStrictEqual(rows.map((r) => r.registrationId), ['member-1']);
  });
  await calls.run('deleteDeviceRegistrationState', async () => { await client.deleteDeviceRegistrationState('member-1'); });
  await calls.run('deleteEnrollmentGroup', async () => {
    await client.deleteEnrollmentGroup(body(await client.getEnrollmentGroup('grp-1')));
    await assert.rejects(() => client.getEnrollmentGroup('grp-1'));
  });
  await calls.run('wrong key', async () => {
    const stranger = ProvisioningServiceClient.fromConnectionString(config.service.replace(/SharedAccessKey=.*/, `SharedAccessKey=${config.key}`));
    await assert.rejects(() => stranger.getEnrollmentGroup('grp-ca'), { name: 'UnauthorizedError' });
  });
}

(async () => {
  await individuals();
  await groups();
  await registrations();
  calls.end();
})().catch((err) => { calls.tell('driver', String(err && err.stack)); process.exit(2); });
