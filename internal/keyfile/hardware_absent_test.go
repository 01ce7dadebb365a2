//go:build !(pkcs11 && cgo)

package keyfile

import "testing"

// The usual build says which one it takes.
func TestHardwareTakesAnotherBuild(t *testing.T) {
	t.Parallel()
	files := Files{Key: "pkcs11:token=t;object=o?module-path=/x.so", Password: "geheimnis", Certificates: place(t, "chain.pem", certPEM(testPKI().chain()...))}
	pair, problems := ReadSeal(files, now)
	if pair != nil {
		t.Error("a pair was made of it")
	}
	wantProblem(t, problems, "this build of Waybill cannot use a key in hardware", "go build -tags pkcs11 ./cmd/waybill", false)
	discreet(t, problems, "geheimnis")
}
