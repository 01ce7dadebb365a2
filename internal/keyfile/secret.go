package keyfile

import (
	"strings"

	"github.com/waybill-token/waybill/internal/keyforms"
)

// maxSecret is how much of the file of a secret is accepted, in bytes.
const maxSecret = 4096

// ReadSecret reads a password, a PIN, or another secret from a file of at most 4 KiB, without the
// ends of lines behind it and without the byte order mark, nor in the UTF-16, that Windows writes. An empty file is refused: one that was never filled would switch off what
// the secret is for. There is one problem at most, which does not hold the secret.
func ReadSecret(path string) (string, Problems) {
	return (&contents{path: path}).secret()
}

func (c *contents) secret() (string, Problems) {
	data, trouble := c.read(maxSecret)
	if trouble != nil {
		return "", trouble
	}
	text := strings.TrimRight(string(keyforms.ToUTF8(data)), "\r\n")
	if text == "" {
		return "", []Problem{c.problem(nil, "Write the secret into it, or do not name it.", "the file is empty")}
	}
	return text, nil
}
