package link

import "encoding/json"

// FlagsPut gives a stamp the feature flags that stand in the twins of its
// devices.
var FlagsPut = Call[Flags, None]{"flags.put"}

// Flags are the feature flags of a stamp's devices, as they are there.
type Flags struct {
	Version  string          `json:"version"`  // names the content
	Document json.RawMessage `json:"document"` // as flagd defines flags
}

// FlagsProperty is the desired property of a twin that holds a device's flags:
// their values by key.
const FlagsProperty = "slipwayFlags"
