//go:build !(pkcs11 && cgo)

package pkcs11

// Open stands in for the one that takes cgo, which the usual build does without: it makes
// one file that runs on every machine.
func Open(_ *URI, _, _ string) (Key, error) {
	return nil, &Error{
		Message: "this build of Waybill cannot use a key in hardware",
		Hint:    "Use one that was built with: CGO_ENABLED=1 go build -tags pkcs11 ./cmd/waybill; or give the file of a key, PEM or PKCS#12.",
	}
}
