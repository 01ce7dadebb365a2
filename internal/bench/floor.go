package bench

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/waybill-token/waybill/ishare"
)

// ServeFloor is the floor beside which a token endpoint is measured: net/http as it comes, a form that r.ParseForm takes
// apart, one RSA verification with a key that is known, and an answer that is always the same. It decides nothing. It serves at
// a free loopback port until ctx is done, and writes where as the log of a server does. The key is the SubjectPublicKeyInfo
// in base64.
func ServeFloor(ctx context.Context, key64 string, log io.Writer) error {
	der, err := base64.StdEncoding.DecodeString(key64)
	if err != nil {
		return fmt.Errorf("bench: floor: key: %w", err)
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return fmt.Errorf("bench: floor: key: %w", err)
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return errors.New("bench: floor: the key is not RSA")
	}
	answer := []byte(`{"access_token":"` + strings.Repeat("x", 576) + `","token_type":"Bearer","expires_in":3600,"scope":"iSHARE"}` + "\n")
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+ishare.TokenPath, func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil || verify(key, []byte(r.PostForm.Get("client_assertion"))) != nil {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(answer) // who has gone needs none
	})
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("bench: floor: %w", err)
	}
	server := &http.Server{Handler: mux} //nolint:gosec // time limits have a price, and only bench connects
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	fmt.Fprintf(log, `{"msg":"serving","public":%q}`+"\n", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("bench: floor: %w", err)
	}
	return nil
}

// verify verifies an RS256 signature, whatever the header says.
func verify(key *rsa.PublicKey, compact []byte) error {
	dot := bytes.LastIndexByte(compact, '.')
	if dot < 0 {
		return rsa.ErrVerification
	}
	signature := make([]byte, base64.RawURLEncoding.DecodedLen(len(compact)-dot-1))
	if _, err := base64.RawURLEncoding.Decode(signature, compact[dot+1:]); err != nil {
		return err
	}
	digest := sha256.Sum256(compact[:dot])
	return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature)
}
