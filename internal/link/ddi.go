package link

// Calls about update clients that speak hawkBit's protocol.
var (
	UpdateTokenRead  = Call[DeviceRef, UpdateToken]{"ddi.token"}
	UpdateGatewaySet = Call[SetUpdateGateway, UpdateGateway]{"ddi.gateway"}
)

// UpdateToken is what an update client needs of a device: the tenant and
// controller id in the address, and the token it shows.
type UpdateToken struct {
	DeviceID string `json:"deviceId"`
	Tenant   string `json:"tenant"`
	Token    string `json:"token"`
}

// SetUpdateGateway gives a tenant's update clients a token of their own, or
// takes it away.
type SetUpdateGateway struct {
	Tenant string `json:"tenant"`
	On     bool   `json:"on"`
}

// UpdateGateway is the token that speaks for all devices of a tenant; empty
// where there is none.
type UpdateGateway struct {
	Tenant string `json:"tenant"`
	Token  string `json:"token,omitempty"`
}
