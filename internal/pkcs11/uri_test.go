package pkcs11

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestURI(t *testing.T) {
	t.Parallel()
	slot := uint(417)
	cases := map[string]URI{
		"pkcs11:token=waybill;object=seal?module-path=/usr/lib/x.so": {token: "waybill", object: "seal", module: "/usr/lib/x.so"},
		"pkcs11:serial=8a0d;id=%01%ff?module-path=/x.so&pin-source=file:/run/pin": {
			serial: "8a0d", id: []byte{1, 0xff}, module: "/x.so", PINSource: "/run/pin",
		},
		"pkcs11:slot-id=417;object=a%20b%3bc?pin-source=file:///run/pin%20of%20x&module-path=/x.so": {
			slot: &slot, object: "a b;c", module: "/x.so", PINSource: "/run/pin of x",
		},
		// As p11tool lists it.
		"pkcs11:model=SoftHSM%20v2;manufacturer=SoftHSM%20project;serial=8a0d;token=waybill;id=%01;object=seal;type=private?module-path=/x.so": {
			model: "SoftHSM v2", manufacturer: "SoftHSM project", serial: "8a0d", token: "waybill", id: []byte{1}, object: "seal", module: "/x.so",
		},
		"pkcs11:token=z%C3%A9gel(1)&co;object=:[]@!$'*+,=?module-path=/a/b-c_d.so": {token: "zégel(1)&co", object: ":[]@!$'*+,=", module: "/a/b-c_d.so"},
	}
	for text, want := range cases {
		got, err := ParseURI(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		want.Shown, _, _ = strings.Cut(text, "?")
		if !reflect.DeepEqual(*got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", text, *got, want)
		}
	}
}

func TestURIsThatAreRefused(t *testing.T) {
	t.Parallel()
	const right = "pkcs11:token=t;object=o?module-path=/x.so"
	long := strings.Repeat("x", 40)
	cases := []struct{ uri, want string }{
		{"pkcs12:token=t", "not a pkcs11: URI"},
		{"pkcs11:", "has no value"},
		{"pkcs11:token=t;?module-path=/x.so", "has no value"},
		{right + "&", "has no value"},
		{"pkcs11:object=o?module-path=/x.so", "names no token; add token="},
		{"pkcs11:token=t?module-path=/x.so", "names no key; add object="},
		{"pkcs11:token=t;object=o", "names no PKCS#11 library; add ?module-path="},
		{"pkcs11:token=t;object=o?", "has no value"},
		{"pkcs11:token=t;token=t;object=o?module-path=/x.so", "token occurs twice"},
		{right + "&module-path=/x.so", "module-path occurs twice"},
		{"pkcs11:token=;object=o?module-path=/x.so", "token is empty"},
		{"pkcs11:token=" + long + ";object=o?module-path=/x.so", "token is empty or over 32 bytes"},
		{"pkcs11:serial=" + long + ";object=o?module-path=/x.so", "serial is empty or over 16 bytes"},
		{"pkcs11:token=t;id=?module-path=/x.so", "id is empty"},
		{"pkcs11:token=%ff;object=o?module-path=/x.so", "token is not text"},
		{"pkcs11:token=t;object=%00?module-path=/x.so", "object is not text"},
		{"pkcs11:token=a b;object=o?module-path=/x.so", "token: holds a character that has to be percent-encoded"},
		{"pkcs11:token=a/b;object=o?module-path=/x.so", "token: holds a character that has to be percent-encoded"},
		{"pkcs11:token=%4;object=o?module-path=/x.so", "token: holds a % that"},
		{"pkcs11:token=%zz;object=o?module-path=/x.so", "token: holds a % that"},
		{"pkcs11:slot-id=x;object=o?module-path=/x.so", "slot-id is not a number"},
		{"pkcs11:slot-id=007;object=o?module-path=/x.so", "slot-id is not a number"},
		{"pkcs11:slot-id=4294967296;object=o?module-path=/x.so", "slot-id is not a number"},
		{"pkcs11:token=t;object=o;type=cert?module-path=/x.so", "type is not private"},
		{"pkcs11:token=t;object=o?module-path=x.so", "module-path is not an absolute path"},
		{"pkcs11:token=t;object=o?module-name=softhsm2", "module-name is not supported; give module-path"},
		{"pkcs11:token=t;object=o;module-path=/x.so", "it comes behind the ?"},
		{"pkcs11:object=o?module-path=/x.so&token=t", "it comes before the ?"},
		{"pkcs11:library-version=1.0;token=t", "library-version is not supported"},
		{right + "&pin-source=/run/pin", "pin-source is not a file: URI"},
		{right + "&pin-source=|echo%20geheimnis", "pin-source is not a file: URI"},
		{right + "&pin-source=file:pin", "pin-source is not an absolute path"},
		{right + "&pin-value=geheimnis", "holds a PIN"},
		{"pkcs11:token=t;pin-value=geheimnis", "holds a PIN"},
		{"pkcs11:token=t&pin-value=geheimnis;object=o?module-path=/x.so", "holds a PIN"},
		{right + ";pin-value=geheimnis", "holds a PIN"},
		{right + "?pin-value=geheimnis", "holds a PIN"},
		{"pkcs11:token=t;4321-geheimnis=geheimnis", "an attribute has an unknown name"},
		{"pkcs11:token=" + strings.Repeat("%41", maxURI), "over 4096 bytes"},
	}
	for _, c := range cases {
		_, err := ParseURI(c.uri)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.80s: error %v, want %q", c.uri, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), "geheimnis") || strings.Contains(err.Error(), "4321-")) {
			t.Errorf("%s: the error quotes a value: %v", c.uri, err)
		}
	}
}

func FuzzURI(f *testing.F) {
	f.Add("pkcs11:token=waybill;object=seal;id=%01?module-path=/usr/lib/x.so&pin-source=file:/run/pin")
	f.Add("pkcs11:model=SoftHSM%20v2;manufacturer=SoftHSM%20project;serial=8a0d;token=t;id=%01;object=o;type=private?module-path=/x.so")
	f.Add("pkcs11:slot-id=7;object=o?module-path=/x.so&pin-value=secret-pin")
	f.Add("pkcs11:slot-id=7;object=o?module-path=/pin-value=")
	f.Add("pkcs11:")
	f.Add("pkcs11:token=%;object=%0?")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := ParseURI(text)
		if err != nil {
			return
		}
		if u.token == "" && u.serial == "" && u.slot == nil || u.object == "" && len(u.id) == 0 || !filepath.IsAbs(u.module) {
			t.Errorf("%q leaves a choice: %+v", text, u)
		}
		if strings.Contains(text, "pin-value=") {
			t.Errorf("%q holds a PIN", text)
		}
		for _, s := range []string{u.token, u.serial, u.model, u.manufacturer, u.object, u.module, u.PINSource} {
			if strings.ContainsRune(s, 0) {
				t.Errorf("%q: NUL ends a string of C early: %q", text, s)
			}
		}
		if strings.ContainsFunc(u.Shown, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("%q is shown as %q", text, u.Shown)
		}
	})
}
