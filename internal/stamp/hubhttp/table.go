package hubhttp

import "github.com/slipway/slipway/internal/policy"

// table is every call and the right it takes.
func (e *Edge) table() []route {
	const (
		read, write = policy.RegistryRead, policy.RegistryWrite
		connect     = policy.ServiceConnect
	)
	return []route{
		on("POST /devices/{}/messages/events", deviceOnly, e.send),
		on("POST /devices/{}/modules/{}/messages/events", deviceOnly, e.send),
		on("GET /devices/{}/messages/devicebound", deviceOnly, e.receive),
		on("DELETE /devices/{}/messages/devicebound/{}", deviceOnly, e.settle),
		on("POST /devices/{}/messages/devicebound/{}/abandon", deviceOnly, e.abandon),
		on("POST /devices/{}/files", deviceOnly, e.startUpload),
		on("POST /devices/{}/files/notifications", deviceOnly, e.endUpload),
		on("POST /devices/{}/files/notifications/{}", deviceOnly, e.endUpload),
		on("GET /devices/{}/updates/artifacts/{}", deviceOnly, e.getArtifact),
		on("HEAD /devices/{}/updates/artifacts/{}", deviceOnly, e.getArtifact),
		on("GET /devices/{}/updates/metadata/{}", deviceOnly, e.getMetadata),
		on("HEAD /devices/{}/updates/metadata/{}", deviceOnly, e.getMetadata),

		on("GET /devices", read, e.listDevices),
		on("POST /devices", write, e.bulk),
		on("POST /devices/query", read, e.query),
		on("POST /devices/keys/regenerate", write, e.rotateKeys),
		on("GET /devices/{}", read, e.getIdentity),
		on("PUT /devices/{}", write, e.putIdentity),
		on("DELETE /devices/{}", write, e.deleteIdentity),
		on("DELETE /devices/{}/commands", connect, e.purge),
		on("POST /devices/{}/applyConfigurationContent", write, e.applyContent),
		on("GET /devices/{}/modules", read, e.listModules),
		on("GET /devices/{}/modules/{}", read, e.getIdentity),
		on("PUT /devices/{}/modules/{}", write, e.putIdentity),
		on("DELETE /devices/{}/modules/{}", write, e.deleteIdentity),
		on("DELETE /devices/{}/modules/{}/commands", connect, e.purge),

		on("GET /twins/{}", connect, e.getTwin),
		on("PATCH /twins/{}", connect, e.patchTwin),
		on("PUT /twins/{}", connect, e.replaceTwin),
		on("POST /twins/{}/methods", connect, e.invoke),
		on("GET /twins/{}/modules/{}", connect, e.getTwin),
		on("PATCH /twins/{}/modules/{}", connect, e.patchTwin),
		on("PUT /twins/{}/modules/{}", connect, e.replaceTwin),
		on("POST /twins/{}/modules/{}/methods", connect, e.invoke),

		on("GET /digitaltwins/{}", connect, e.getDigitalTwin),
		on("PATCH /digitaltwins/{}", connect, e.patchDigitalTwin),
		on("POST /digitaltwins/{}/commands/{}", connect, e.command),
		on("POST /digitaltwins/{}/components/{}/commands/{}", connect, e.command),

		on("GET /configurations", read, e.listConfigurations),
		on("POST /configurations/testQueries", read, e.testQueries),
		on("GET /configurations/{}", read, e.getConfiguration),
		on("PUT /configurations/{}", write, e.putConfiguration),
		on("DELETE /configurations/{}", write, e.deleteConfiguration),

		on("POST /jobs/create", write, e.createTransfer),
		on("GET /jobs", write, e.listTransfers),
		on("GET /jobs/{}", write, e.getTransfer),
		on("DELETE /jobs/{}", write, e.cancelTransfer),
		on("GET /jobs/v2/query", connect, e.queryJobs),
		on("GET /jobs/v2/{}", connect, e.getJob),
		on("PUT /jobs/v2/{}", connect, e.putJob),
		on("POST /jobs/v2/{}/cancel", connect, e.cancelJob),

		on("GET /statistics/devices", read, e.deviceStatistics),
		on("GET /statistics/service", connect, e.serviceStatistics),

		on("GET /messages/serviceBound/filenotifications", connect, e.receiveNotification),
		on("DELETE /messages/serviceBound/filenotifications/{}", connect, e.completeNotification),
		on("POST /messages/serviceBound/filenotifications/{}/abandon", connect, e.abandonNotification),
		on("GET /messages/serviceBound/feedback", connect, e.receiveFeedback),
		on("DELETE /messages/serviceBound/feedback/{}", connect, e.completeFeedback),
		on("POST /messages/serviceBound/feedback/{}/abandon", connect, e.abandonFeedback),
	}
}
