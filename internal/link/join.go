package link

// Join is how a process of a plane asks for its place on the link: with a
// token, or with a certificate it has already, by which it spoke TLS.
type Join struct {
	Token string   `json:"token,omitempty" doc:"Join token; a process that has a certificate comes with that instead"`
	Hosts []string `json:"hosts,omitempty" doc:"Names and addresses the certificate is to be good for" maxItems:"20"`
	CSR   []byte   `json:"csr,omitempty" doc:"Certificate signing request, DER" maxLength:"8192"`
}

// Joined is its place: a certificate that names it, and where the link is.
type Joined struct {
	Peer        string   `json:"peer"`
	Certificate []byte   `json:"certificate" doc:"DER"`
	CA          []byte   `json:"ca" doc:"The installation's authority, DER"`
	Servers     []string `json:"servers" doc:"Servers of the link, host:port"`
	Routes      []string `json:"routes,omitempty" doc:"Where a server that becomes part of the link finds the others, host:port"`
}
