package config

import "github.com/waybill-token/waybill/internal/keyfile"

// Reread gives the same configuration with the secrets that stand in files as these are now: the password of the seal's
// key, and the secret of the internal listener. Neither the configuration's own file nor the environment is
// read again. The error is an [*Error] with everything that is wrong.
func (c *Config) Reread() (*Config, error) {
	now := *c
	var problems []Problem
	for name, secret := range map[string]*Secret{envPassword: &now.Party.Password, envSecret: &now.Listen.Secret} {
		if secret.file == "" {
			continue
		}
		text, unread := keyfile.ReadSecret(secret.file)
		for _, p := range unread {
			problems = append(problems, Problem{Position{File: "$" + name + fileSuffix}, "", p.Message, p.Hint})
		}
		secret.text = text
	}
	if text := now.Listen.Secret.text; len(problems) == 0 && text != "" && !IsSecret(text) {
		problems = append(problems, now.SecretProblem(SecretWanted))
	}
	if len(problems) > 0 {
		return nil, &Error{problems}
	}
	return &now, nil
}
