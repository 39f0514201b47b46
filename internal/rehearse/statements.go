package rehearse

import "strings"

// Statements takes SQL of PostgreSQL apart at its semicolons, which in quotes,
// comments and the bodies of functions are none. Lines that are commands of
// psql are left out.
func Statements(text string) (all []string) {
	var b strings.Builder
	flush := func() {
		if one := strings.TrimSpace(b.String()); one != "" {
			all = append(all, one)
		}
		b.Reset()
	}
	for i := 0; i < len(text); {
		rest := text[i:]
		switch {
		case rest[0] == ';':
			flush()
			i++
			continue
		case rest[0] == '\\' && strings.TrimSpace(b.String()) == "":
			i += line(rest)
			continue
		case strings.HasPrefix(rest, "--"):
			i += line(rest) // where it ends, a statement may go on
			b.WriteByte('\n')
			continue
		case strings.HasPrefix(rest, "/*"):
			i += comment(rest)
			b.WriteByte(' ')
			continue
		default:
			n := literal(text, i)
			b.WriteString(rest[:n])
			i += n
		}
	}
	flush()
	return all
}

// literal is how long what begins at a place is and belongs together: something
// in quotes, or one byte.
func literal(text string, at int) int {
	switch rest := text[at:]; {
	case rest[0] == '\'':
		return quotedBy(rest, '\'', at > 0 && (text[at-1] == 'E' || text[at-1] == 'e'))
	case rest[0] == '"':
		return quotedBy(rest, '"', false)
	case rest[0] == '$' && (at == 0 || !word(text[at-1])):
		return dollars(rest)
	}
	return 1
}

// line is how long the rest of a line is, with its end.
func line(text string) int {
	if i := strings.IndexByte(text, '\n'); i >= 0 {
		return i + 1
	}
	return len(text)
}

// comment is how long a comment is; others may be in it.
func comment(text string) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch {
		case strings.HasPrefix(text[i:], "/*"):
			depth++
			i++
		case strings.HasPrefix(text[i:], "*/"):
			depth--
			if i++; depth == 0 {
				return i + 1
			}
		}
	}
	return len(text)
}

// quotedBy is how long what is in quotes is, with them.
func quotedBy(text string, quote byte, escapes bool) int {
	for i := 1; i < len(text); i++ {
		switch {
		case escapes && text[i] == '\\':
			i++
		case text[i] == quote:
			return i + 1 // one that is doubled begins anew, which comes to the same
		}
	}
	return len(text)
}

// dollars is how long what is between $tag$ and $tag$ is, with them; 1 where
// that is none.
func dollars(text string) int {
	end := strings.IndexByte(text[1:], '$')
	if end < 0 {
		return 1
	}
	tag := text[:end+2]
	for i := 1; i < len(tag)-1; i++ {
		if !word(tag[i]) || i == 1 && tag[i] >= '0' && tag[i] <= '9' {
			return 1
		}
	}
	if closing := strings.Index(text[len(tag):], tag); closing >= 0 {
		return 2*len(tag) + closing
	}
	return len(text)
}

func word(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c >= 0x80
}
