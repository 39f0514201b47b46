package link

// ControlPeer is the subject prefix under which control answers.
const ControlPeer = "control"

// Calls control answers.
var (
	TokenCheck = Call[CheckToken, TokenHolder]{"token.check"}
)

// CheckToken asks whose a bearer token is.
type CheckToken struct {
	Token string `json:"token"`
}

// TokenHolder is whose it is, and whether they may change things.
type TokenHolder struct {
	Name  string `json:"name"`
	Write bool   `json:"write"`
}
