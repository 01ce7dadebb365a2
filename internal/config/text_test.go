package config

import (
	"fmt"
	"slices"
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

// So are the keys of access tokens. A text that is none of them, such as a part of it, is no path either.
func TestTokenKeysAsText(t *testing.T) {
	t.Parallel()
	const text = `{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`
	for given, refused := range map[string]bool{text: false, text[10:]: true, strings.Repeat("c2VjcmV0", 20): true} {
		c, problems := interpret("etc/waybill.yaml", nil, []string{"WAYBILL_TOKENS_KEYS=" + given})
		if string(c.Tokens.Keys) != given {
			t.Errorf("keys %q", string(c.Tokens.Keys))
		}
		told := slices.ContainsFunc(problems, func(p Problem) bool { return p.Key == "tokens.keys" })
		if shown := fmt.Sprintf("%v %+v %s", c.Tokens, c.Tokens.Keys, problems); told != refused || strings.Contains(shown, "c2VjcmV0") {
			t.Errorf("refused: %v; it says %s", told, shown)
		}
	}
	c, problems := interpret("waybill.yaml", []byte("tokens: {keys: '"+text+"'}"), nil)
	if said := fmt.Sprint(problems); c.Tokens.Keys == Path(text) || !strings.Contains(said, "a private key stands in the configuration") || strings.Contains(said, "c2VjcmV0") {
		t.Errorf("keys %q; it says %s", c.Tokens.Keys, said)
	}
}

// A configuration is shown around; a key in it would be too.
func TestKeyInTheFile(t *testing.T) {
	t.Parallel()
	const file = "party: {id: 'did:ishare:EU.NL.NTRNL-1', key: '-----BEGIN PRIVATE KEY-----\\nMIIE//../vQ==\\n-----END PRIVATE KEY-----'}"
	c, problems := interpret("waybill.yaml", []byte(file), nil)
	i := slices.IndexFunc(problems, func(p Problem) bool { return p.Key == "party.key" })
	if i < 0 || c.Party.Key != "" {
		t.Fatalf("key %q, problems %v", string(c.Party.Key), problems)
	}
	if said := problems[i].String(); !strings.Contains(said, "a private key stands in the configuration") || strings.Contains(said, "MIIE") {
		t.Errorf("it says %s", said)
	}
}
