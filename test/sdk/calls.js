// What the drivers of the service SDKs share: a list of calls, each run and its
// result told as a JSON line {"client","call","result"}; the first failure does
// not stop the others.
'use strict';

const assert = require('assert');

class Calls {
  constructor(client) { this.client = client; this.failed = 0; }

  tell(call, result) { process.stdout.write(JSON.stringify({ client: this.client, call, result }) + '\n'); }

  // run makes one call and checks what comes of it.
  async run(call, fn) {
    try {
      await fn();
      this.tell(call, 'ok');
    } catch (err) {
      this.failed += 1;
      this.tell(call, `${err.name}: ${err.message} ${(err.stack || '').split('\n')[1] || ''}`);
    }
  }

  // refused makes a call that must fail with an error of a class.
  async refused(call, name, fn) {
    await this.run(call, async () => {
      let failure = null;
      try { await fn(); } catch (err) { failure = err; }
      assert(failure, 'it did not fail');
      assert.strictEqual(failure.name, name, `${failure.name}: ${failure.message}`);
    });
  }

  end() { process.exit(this.failed ? 1 : 0); }
}

// until polls until a call gives something true.
async function until(what, fn, limit = 60000) {
  const end = Date.now() + limit;
  for (;;) {
    const result = await fn();
    if (result) return result;
    if (Date.now() > end) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

module.exports = { Calls, until };
