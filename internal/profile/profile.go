// Package profile is what a Service Consumer keeps of a server whose tokens it gets: where it is, who it is, and
// whose seal signs. It is a YAML file, read by the rules of package config: unknown keys are refused, each with its line, and
// relative paths are relative to the file. It holds no secret.
package profile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/keyfile"
	"github.com/waybill-token/waybill/internal/permission"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
)

// Names of profiles that are used when none is named.
const (
	Local   = "waybill-client.yaml" // in the present folder; it comes first
	Default = "default"             // of the account
)

const suffix = ".yaml"

// A file is a profile as it is written. Every key may be absent: a flag or the environment can give it.
type file struct {
	Server          config.Endpoint `yaml:"server"`
	TokenEndpoint   config.Upstream `yaml:"token_endpoint"`
	Audience        ishare.PartyID  `yaml:"audience"`
	ClientID        ishare.PartyID  `yaml:"client_id"`
	Key             config.Path     `yaml:"key"`
	KeyPasswordFile config.Path     `yaml:"key_password_file"`
	Certificates    config.Path     `yaml:"certificates"`
	Scope           ishare.Scope    `yaml:"scope"`
	Algorithm       algorithm       `yaml:"alg"`
	CA              config.Path     `yaml:"ca"`
}

type algorithm string

// UnmarshalText reads one of the algorithms of [jws.ParseAlgorithm].
func (a *algorithm) UnmarshalText(text []byte) error {
	alg, err := jws.ParseAlgorithm(string(text))
	if err == nil {
		*a = algorithm(alg)
	}
	return err
}

// A Value is one key of a profile, and what it is set to.
type Value struct{ Key, Text string }

// Keys are all keys of a profile, in the order in which they are written.
func Keys() []string {
	keys := make([]string, 0, 10)
	for _, v := range new(file).values() {
		keys = append(keys, v.Key)
	}
	return keys
}

// IsFile reports whether the value of a key names a file.
func IsFile(key string) bool {
	return slices.Contains([]string{"key", "key_password_file", "certificates", "ca"}, key)
}

func (f *file) values() []Value {
	return []Value{
		{"server", f.Server.String()},
		{"token_endpoint", f.TokenEndpoint.String()},
		{"audience", string(f.Audience)},
		{"client_id", string(f.ClientID)},
		{"key", string(f.Key)},
		{"key_password_file", string(f.KeyPasswordFile)},
		{"certificates", string(f.Certificates)},
		{"scope", f.Scope.String()},
		{"alg", string(f.Algorithm)},
		{"ca", string(f.CA)},
	}
}

// A Profile was read from the file at Path. The paths in it have been joined with the folder of the file.
type Profile struct {
	Path   string
	values []Value
}

// Value is what a key is set to; empty when the profile does not say.
func (p *Profile) Value(key string) string {
	for _, v := range p.values {
		if v.Key == key {
			return v.Text
		}
	}
	return ""
}

// Load reads the profile at a path. One that every account of the machine can change is refused: whoever does gets the
// assertions.
func Load(path string) (*Profile, error) {
	for _, found := range permission.Of(path, "") {
		if found.Everybody {
			return nil, fmt.Errorf("profile %s: %s. %s", found.Path, found.Message, found.Hint)
		}
	}
	var f file
	if err := config.LoadInto(path, &f); err != nil {
		return nil, explained(path, err)
	}
	return &Profile{path, f.set()}, nil
}

// Parse reads what a profile at a path would hold.
func Parse(path string, data []byte) (*Profile, error) {
	var f file
	if err := config.ParseInto(path, data, &f); err != nil {
		return nil, explained(path, err)
	}
	return &Profile{path, f.set()}, nil
}

func (f *file) set() []Value {
	return slices.DeleteFunc(f.values(), func(v Value) bool { return v.Text == "" })
}

// explained says where a password belongs that somebody has put into a profile.
func explained(path string, err error) error {
	found, ok := errors.AsType[*config.Error](err)
	if !ok {
		return fmt.Errorf("profile %w", withPath(path, err))
	}
	for i, p := range found.Problems {
		if strings.Contains(p.Key, "password") && p.Key != "key_password_file" {
			found.Problems[i].Message = "a profile holds no password"
			found.Problems[i].Hint = "Remove it; put the password into a file of its own, and name that with key_password_file."
		}
	}
	return found
}

// withPath names the file in every error of the system.
func withPath(path string, err error) error {
	if cause, ok := errors.AsType[*fs.PathError](err); ok {
		err = cause.Err
	}
	return fmt.Errorf("%s cannot be read: %w", path, err)
}

// Dir is the folder of the account's profiles.
func Dir() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("profiles: there is no folder for the settings of this account: %w", err)
	}
	return filepath.Join(dir, "waybill", "profiles"), nil
}

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Locate gives the path of a profile by its name, or by a path: what has a separator in it, or ends in .yaml.
func Locate(name string) (string, error) {
	if strings.ContainsAny(name, `/`+string(filepath.Separator)) || strings.HasSuffix(name, suffix) || strings.HasSuffix(name, ".yml") {
		return name, nil
	}
	if !validName.MatchString(name) {
		return "", fmt.Errorf("%q is no name of a profile: want up to 64 letters, digits and the characters . _ -, or the path of a file", name)
	}
	dir, err := Dir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, name+suffix), nil
}

// Implied is the path of the profile that is used when none is named; empty when there is none. One in the present folder
// that belongs to somebody else is refused: it could send assertions to whoever wrote it.
func Implied() (string, error) {
	info, err := os.Stat(Local)
	if err == nil {
		owner, known := permission.OwnerOf(info)
		if known && owner.User != 0 && owner.User != os.Geteuid() {
			return "", fmt.Errorf("./%s belongs to another account: remove it, or name it with --profile ./%[1]s if it is to be used", Local)
		}
		return Local, nil
	}
	path, err := Locate(Default)
	if err != nil { // an account without settings has no profile
		return "", nil //nolint:nilerr // as above
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return path, nil
}

// Names are those of the account's profiles, sorted.
func Names() ([]string, error) {
	dir, err := Dir()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("profiles: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if name, ok := strings.CutSuffix(entry.Name(), suffix); ok && validName.MatchString(name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// Format writes values as the profile at a path, below a comment of one line. Files that are named relative to the
// present folder are named relative to the folder of the profile, if they lie in it, and absolutely otherwise.
func Format(path, comment string, values []Value) ([]byte, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", comment)
	for _, v := range values {
		if IsFile(v.Key) && !keyfile.IsURI(v.Text) && !keyfile.IsText(v.Text) {
			var err error
			if v.Text, err = config.PathFrom(filepath.Dir(path), v.Text); err != nil {
				return nil, err
			}
		}
		fmt.Fprintf(&b, "%s: %s\n", v.Key, config.Scalar(v.Text))
	}
	return []byte(b.String()), nil
}
