package alert

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"net/url"
	"strings"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// withoutURL is an error of a request without its address.
func withoutURL(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

// smtps is the port on which TLS begins at once.
const smtps = "465"

// mail sends a message to people with mailboxes.
func (a *Alerts) mail(ctx context.Context, to resource.EmailReceiver, m message) (err error) {
	host, port, err := net.SplitHostPort(to.Server)
	if err != nil {
		return problem.New(problem.Invalid, "the mail server reads host:port, not %q", to.Server)
	}
	conn, err := a.Guard.DialContext(ctx, "tcp", to.Server)
	if err != nil {
		return problem.New(problem.NotReady, "the mail server cannot be reached: %s", err)
	}
	if until, set := ctx.Deadline(); set {
		if err := conn.SetDeadline(until); err != nil {
			return errors.Join(err, conn.Close())
		}
	}
	secured := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if port == smtps {
		conn = tls.Client(conn, secured)
	}
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		return problem.New(problem.NotReady, "the mail server does not answer: %s", errors.Join(err, conn.Close()))
	}
	defer func() { _ = c.Close() }()
	if err := a.deliver(c, host, port, secured, to, m); err != nil {
		return problem.New(problem.NotReady, "the mail server: %s", err)
	}
	return c.Quit()
}

func (a *Alerts) deliver(c *smtp.Client, host, port string, secured *tls.Config, to resource.EmailReceiver, m message) error {
	if offered, _ := c.Extension("STARTTLS"); offered && port != smtps {
		if err := c.StartTLS(secured); err != nil {
			return err
		}
	} else if port != smtps && !to.Insecure {
		return errors.New("it offers no TLS, and the receiver is not declared insecure")
	}
	if to.Username != "" {
		if err := c.Auth(smtp.PlainAuth("", to.Username, to.Password, host)); err != nil {
			return err
		}
	}
	from, err := mail.ParseAddress(to.From)
	if err != nil {
		return err
	}
	if err := c.Mail(from.Address); err != nil {
		return err
	}
	for _, one := range to.To {
		address, err := mail.ParseAddress(one)
		if err != nil {
			return err
		}
		if err := c.Rcpt(address.Address); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(a.letter(to, m)); err != nil {
		return err
	}
	return w.Close()
}

// letter is a message as mail. What it is about cannot add a header: lines are
// encoded.
func (a *Alerts) letter(to resource.EmailReceiver, m message) []byte {
	var text strings.Builder
	for _, h := range [][2]string{
		{"From", to.From}, {"To", strings.Join(to.To, ", ")}, {"Subject", mime.QEncoding.Encode("utf-8", m.subject())}, {"Date", a.Now().UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700")},
		{"Message-ID", "<" + rand.Text() + "@slipway>"}, {"MIME-Version", "1.0"}, {"Content-Type", "text/plain; charset=utf-8"}, {"Content-Transfer-Encoding", "quoted-printable"},
		{"Auto-Submitted", "auto-generated"},
	} {
		fmt.Fprintf(&text, "%s: %s\r\n", h[0], h[1])
	}
	text.WriteString("\r\n")
	body := quotedprintable.NewWriter(&text)
	_, _ = body.Write([]byte(strings.ReplaceAll(m.text(), "\n", "\r\n"))) // into memory: does not fail
	_ = body.Close()
	return []byte(text.String())
}
