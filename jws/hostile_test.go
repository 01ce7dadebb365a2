package jws_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"math"
	"math/big"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/jws"
)

// Whatever one bit or one byte of a token is turned into, it is no token of this key.
func TestEveryChangeIsNoticed(t *testing.T) {
	me := consumer()
	compact, err := jws.Sign(jws.RS256, me.Key, me.Chain[:1], []byte(`{"iss":"did:ishare:EU.NL.NTRNL-10000001","jti":"1"}`))
	if err != nil {
		t.Fatal(err)
	}
	key := public(t, me)
	if err := verify(t, compact, jws.RS256, key); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for worker := range workers {
		wait.Go(func() {
			for i := worker; i < len(compact); i += workers {
				for what, changed := range changes(compact, i) {
					token, err := jws.Split(changed)
					if err == nil && token.Verify(jws.RS256, jws.NewKey(key)) == nil {
						t.Errorf("byte %d, %s: verifies", i, what)
					}
				}
			}
		})
	}
	wait.Wait()
}

// changes are the flips of each bit of the byte at i, the token without that byte,
// and the token with that byte twice.
func changes(compact string, i int) map[string]string {
	m := map[string]string{
		"dropped": compact[:i] + compact[i+1:],
		"doubled": compact[:i+1] + compact[i:],
	}
	for bit := range 8 {
		m[fmt.Sprintf("bit %d", bit)] = compact[:i] + string([]byte{compact[i] ^ 1<<bit}) + compact[i+1:]
	}
	return m
}

func TestEveryTruncationIsNoticed(t *testing.T) {
	compact := sign(t, jws.RS256, consumer(), `{"iss":"a"}`)
	for n := range compact {
		if token, err := jws.Split(compact[:n]); err == nil && token.Verify(jws.RS256, jws.NewKey(public(t, consumer()))) == nil {
			t.Errorf("the first %d bytes verify", n)
		}
	}
}

// hostile inputs look for a place where a small request takes much memory.
func hostile() map[string]string {
	const size = 48 << 10 // 64 KiB in base64
	members := strings.Builder{}
	for i := 0; members.Len() < size; i++ {
		fmt.Fprintf(&members, `,"%x":1`, i)
	}
	der := base64.StdEncoding.EncodeToString(consumer().Certificate().Raw)
	return map[string]string{
		"arrays in arrays":           `{"a":` + strings.Repeat("[", size) + "}",
		"arrays in arrays, closed":   `{"a":` + strings.Repeat("[", size/2) + strings.Repeat("]", size/2) + "}",
		"objects in objects":         strings.Repeat(`{"a":`, size/5),
		"objects in objects, closed": strings.Repeat(`{"a":`, size/6) + "1" + strings.Repeat("}", size/6),
		"objects in x5c":             `{"x5c":` + strings.Repeat(`[{"a":`, size/6),
		"duplicate of a long name":   `{"` + strings.Repeat("a", size/2) + `":1,"` + strings.Repeat("a", size/2) + `":1}`,
		"many members":               `{"":0` + members.String() + "}",
		"many numbers in x5c":        `{"x5c":[0` + strings.Repeat(",0", size/2) + "]}",
		"many empty texts in x5c":    `{"x5c":[""` + strings.Repeat(`,""`, size/3) + "]}",
		"many objects in x5c":        `{"x5c":[{}` + strings.Repeat(`,{}`, size/3) + "]}",
		"a hundred certificates":     `{"x5c":["` + der + strings.Repeat(`","`+der, 99) + `"]}`,
		"ten certificates":           `{"x5c":["` + der + strings.Repeat(`","`+der, 9) + `"]}`,
		"one long broken address":    x5c(quote(base64.StdEncoding.EncodeToString(withBrokenAddress(size / 2)))),
		"one long entry":             `{"x5c":["` + strings.Repeat("A", size) + `"]}`,
		"escapes":                    `{"x5c":["` + strings.Repeat(`\u0041`, size/6) + `"]}`,
		"long alg":                   `{"alg":"` + strings.Repeat(`\"`, size/2) + `"}`,
		"long number":                `{"a":` + strings.Repeat("9", size) + "}",
		"blanks":                     strings.Repeat(" ", size) + "{}",
		"a megabyte":                 `{"a":"` + strings.Repeat("A", 1<<20) + `"}`,
	}
}

// withBrokenAddress is a certificate whose alternative name is a long URI that is
// none, which the parser quotes.
func withBrokenAddress(n int) []byte {
	uri := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte("http://%zz" + strings.Repeat("a", n))}
	names, err := asn1.Marshal([]asn1.RawValue{uri})
	if err != nil {
		panic(err)
	}
	template := ca().Template(testca.Issuing)
	template.SerialNumber = big.NewInt(1)
	template.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: names}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, consumer().Key.Public(), consumer().Key)
	if err != nil {
		panic(err)
	}
	return der
}

// Reading takes memory in proportion to the input, whatever the input: nothing in
// it multiplies. The slowest growth per byte that was seen is that of many members.
func TestMemoryIsInProportion(t *testing.T) {
	const factor, constant = 20, 64 << 10
	for name, object := range hostile() {
		compact := join(encode(object), encode(object), "AA")
		got := allocated(func() {
			token, err := jws.Split(compact)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			if header, err := token.Header(); err == nil {
				header.Others("alg")
				header.Text("alg")
				header.Certificates(nil)
			}
			var claims struct {
				Iss string `json:"iss"`
			}
			jws.UnmarshalObject(token.Payload(), &claims)
		})
		if limit := factor*len(compact) + constant; got > limit {
			t.Errorf("%s: %d bytes of input took %d bytes of memory, more than %d", name, len(compact), got, limit)
		}
	}
}

// allocated is the least of a few runs, because other goroutines count too.
func allocated(f func()) int {
	least := math.MaxInt
	for range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		least = min(least, int(after.TotalAlloc-before.TotalAlloc))
	}
	return least
}

// Errors go to a log, in which nobody may write a novel.
func TestErrorsAreShort(t *testing.T) {
	const limit = 400
	for name, object := range hostile() {
		token, err := jws.Split(join(encode(object), encode(object), "AA"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		header, err := token.Header()
		if err == nil {
			_, err = header.Certificates(nil)
		}
		if err != nil && len(err.Error()) > limit {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
		if err := jws.UnmarshalObject(token.Payload(), new(map[string]any)); err != nil && len(err.Error()) > limit {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
	if _, err := jws.ParseAlgorithm(strings.Repeat("R", 1<<16)); len(err.Error()) > limit {
		t.Errorf("ParseAlgorithm: an error of %d bytes", len(err.Error()))
	}
}
