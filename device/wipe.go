package device

import (
	"context"
	"encoding/json"
)

// WipeMethod is the direct method by which a device is told to wipe itself, as
// it is taken out of use.
const WipeMethod = "slipwayWipe"

// OnWipe is called when the device is taken out of use, with the name of its
// decommissioning: it is to destroy what it keeps of its owner, and its
// credentials. What it returns is recorded; after that the hub cuts the
// connection and refuses the next one, and so does provisioning.
//
// Like any method it may be called again, if the answer did not arrive.
func (c *Client) OnWipe(handler func(ctx context.Context, decommission string) error) {
	c.OnMethod(WipeMethod, func(ctx context.Context, payload []byte) (int, []byte) {
		var order struct {
			Decommission string `json:"decommission"`
		}
		if err := json.Unmarshal(payload, &order); err != nil || order.Decommission == "" {
			return 400, []byte(`{"message":"the order names no decommissioning"}`)
		}
		if err := handler(ctx, order.Decommission); err != nil {
			text, failed := json.Marshal(map[string]string{"message": err.Error()})
			if failed != nil {
				text = []byte(`{}`)
			}
			return 500, text
		}
		return 200, []byte(`{"wiped":true}`)
	})
}
