
const { EventHubConsumerClient, latestEventPosition } = require('@azure/event-hubs');
const c = new EventHubConsumerClient('$Default', process.argv[2], {retryOptions:{maxRetries:0, timeoutInMs: 3000}});
(async () => {
  for (let i = 0; i < 8; i++) {
    console.log(i, (await c.getPartitionProperties('0')).lastEnqueuedSequenceNumber);
    const s = c.subscribe({ processEvents: async () => {}, processError: async (e) => {console.log(e)} }, { startPosition: latestEventPosition, maxWaitTimeInSeconds: 1 });
    await new Promise((r) => setTimeout(r, 1500));
    await s.close();
  }
})().catch((e) => console.log(e)).then(() => process.exit(0));
