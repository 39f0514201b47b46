// Loaded before an SDK that insists on well-known ports: connections to a host
// of the installation go to the port it really listens on. Nothing else changes,
// neither names nor certificates.
'use strict';

const tls = require('tls');

const ports = JSON.parse(process.env.SLIPWAY_PORTS || '{}'); // {"443": 8443, …}
const original = tls.connect;

tls.connect = function connect(...args) {
  for (const arg of args) {
    if (arg && typeof arg === 'object' && ports[arg.port]) arg.port = ports[arg.port];
  }
  if (typeof args[0] === 'number' && ports[args[0]]) args[0] = ports[args[0]];
  return original.apply(this, args);
};
