package link

// Calls by which control hears what others hold, as they have it stored: it is
// held against what is declared.
var (
	HeldRead      = Call[None, Held]{"held.read"}
	DirectoryRead = Call[None, Directory]{"directory.read"}
	// ConfigurationsPut gives a stamp the configurations that control decides.
	ConfigurationsPut = Call[WantedConfigurations, None]{"configurations.put"}
)

// SecretSalt goes before a secret of a route whose digest stands for it.
const SecretSalt = "slipway route secret\x00"

// Held is what a stamp has stored of what control decides.
type Held struct {
	// Routes have digests in the places of their secrets.
	Routes []Route `json:"routes"`
	// Tenants are those that it knows.
	Tenants []Tenant `json:"tenants"`
	Flags   string   `json:"flags,omitempty"`   // the version
	Base    string   `json:"base,omitempty"`    // the release of devices that no rollout reaches
	Rollout string   `json:"rollout,omitempty"` // the release that a rollout brings
	// Configurations are desired properties of many devices, whoever made them.
	Configurations []HeldConfiguration `json:"configurations"`
}

// HeldConfiguration is a configuration without how far it is applied.
type HeldConfiguration struct {
	ID       string         `json:"id"`
	Target   string         `json:"target"`
	Priority int64          `json:"priority"`
	Content  map[string]any `json:"content,omitempty"` // of devices, by path
}

// ConfigurationPrefix begins the names of configurations that are control's.
const ConfigurationPrefix = "slipway-"

// WantedConfigurations are all configurations of control's that a stamp is to
// have.
type WantedConfigurations struct {
	Items []HeldConfiguration `json:"items"`
}
