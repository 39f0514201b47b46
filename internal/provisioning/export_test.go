package provisioning

// Holdings are the kinds of what the plane keeps.
func (p *Plane) Holdings() (kinds []string) {
	for _, h := range p.holdings() {
		kinds = append(kinds, h.Kind())
	}
	return kinds
}
