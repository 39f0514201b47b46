package ddi

// DecodeFeedback is decodeFeedback.
var DecodeFeedback = decodeFeedback

// ApplyAttributes is what becomes of attributes by what a client sends.
func ApplyAttributes(before map[string]string, text []byte) (map[string]string, error) {
	c, err := decodeAttributes(text)
	if err != nil {
		return nil, err
	}
	return c.apply(before)
}
