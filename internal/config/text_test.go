package config

import (
	"fmt"
	"strings"
	"testing"
)

// A key in a variable is the key, character for character, and shows nowhere.
func TestKeyAsText(t *testing.T) {
	t.Parallel()
	const text = "-----BEGIN PRIVATE KEY-----\\nMIIE//../vQ==\\n-----END PRIVATE KEY-----"
	c, problems := interpret("etc/waybill.yaml", nil, []string{"WAYBILL_PARTY_KEY=" + text, "WAYBILL_PARTY_CERTIFICATES=chain.pem"})
	if string(c.Party.Key) != text || c.Party.Certificates != "etc/chain.pem" {
		t.Errorf("key %q, certificates %q", string(c.Party.Key), string(c.Party.Certificates))
	}
	if shown := fmt.Sprintf("%v %+v %s %v", c.Party, c.Party.Key, c.Party.Key, problems); strings.Contains(shown, "MIIE") {
		t.Errorf("the key is shown: %s", shown)
	}
}
