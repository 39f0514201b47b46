package grant

import (
	"context"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/sqldb"
)

// Accounts tells grants who people are, who of them decides, and what they
// have for good: as the accounts and roles of access say.
type Accounts struct{ *access.Access }

// Party finds the person or the program that an account is.
func (a Accounts) Party(ctx context.Context, q sqldb.Querier, id string) (Party, error) {
	account, err := a.AccountIn(ctx, q, id)
	return Party{Person: account.ID, Name: account.ID, Program: account.Kind != access.Human, Sponsor: account.Sponsor}, err
}

// Decides reports whether somebody may agree to grants in an environment.
func (a Accounts) Decides(ctx context.Context, q sqldb.Querier, id, environment, role string) (bool, error) {
	return a.Holds(ctx, q, id, access.GrantApprove, access.Place{Environment: environment}, role)
}

// reviewed is how long a right that nobody used counts as unused.
const reviewed = 90 // days

// Holdings returns who has which rights in an environment, for good.
func (a Accounts) Holdings(ctx context.Context, environment string) ([]Holding, error) {
	held, err := a.Held(ctx, environment, reviewed)
	all := make([]Holding, len(held))
	for i, h := range held {
		since := h.Binding.CreatedAt
		all[i] = Holding{ID: h.Binding.ID, Person: h.Account, Name: h.Account, Role: h.Binding.Role, Where: h.Binding.Bounds.String(), Since: &since, UsedAt: h.UsedAt}
		if h.Account == "" {
			all[i].Name = "group " + h.Binding.Group
		}
		for _, p := range h.Unused {
			all[i].Unused = append(all[i].Unused, string(p))
		}
	}
	return all, err
}

// Take takes a right away.
func (a Accounts) Take(ctx context.Context, tx *sqldb.Tx, _ access.Actor, id string) error {
	return a.UnbindIn(ctx, tx, id)
}
