package hostile

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// tlsScenarios attack a server that speaks TLS itself.
func tlsScenarios() []scenario {
	return []scenario{
		{
			name: "old TLS and broken hellos", attack: "50 connections offer TLS 1.0 and 1.1, or what is no ClientHello",
			config: serverConfig{tls: true},
			run:    greet,
		},
		{
			name: "no HTTP/2 unless set", attack: "10 connections ask for HTTP/2, and speak it without asking",
			config: serverConfig{tls: true},
			run: func(ctx context.Context, a *attacker) {
				a.crowd(ctx, 10, func(ctx context.Context, c net.Conn) {
					spoken := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
					if err := spoken.Handshake(); err != nil {
						a.count("no handshake")
						return
					}
					if spoken.ConnectionState().NegotiatedProtocol == "h2" {
						a.breach("HTTP/2 is spoken though it is not set")
						return
					}
					spoken.Write(preface())
					if codes := answers(spoken, 5*time.Second); len(codes) > 1 || len(codes) == 1 && codes[0] < 400 {
						a.breach("the preface of HTTP/2 is answered with %v", codes)
					}
					a.count("connections refused HTTP/2")
					pause(ctx, 50*time.Millisecond)
				})
			},
		},
		{
			name: "rapid reset", attack: "20 connections open streams of HTTP/2 and reset each at once",
			saturates: true,
			config:    serverConfig{tls: true, listen: ", http2: true"},
			run: func(ctx context.Context, a *attacker) {
				a.crowd(ctx, a.some(20)+3, a.reset) // in the short form, on a machine that may be busy, few
			},
			hold: func(f *field) error {
				if f.log > 1<<20 {
					return fmt.Errorf("it wrote %d KiB into the log", f.log>>10)
				}
				return nil
			},
		},
	}
}

// greet shakes hands in ways that must not lead to a connection.
func greet(ctx context.Context, a *attacker) {
	noise := make([]byte, 4096)
	rand.Read(noise)
	hello := clientHello()
	a.crowd(ctx, a.some(50)+5, func(ctx context.Context, c net.Conn) {
		switch n := time.Now().UnixNano() / 1000 % 6; n {
		case 0, 1:
			version := uint16(tls.VersionTLS10 + n)
			spoken := tls.Client(c, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
			if spoken.Handshake() == nil {
				a.breach("a connection with %s", tls.VersionName(version))
			}
		case 2:
			c.Write(noise)
		case 3:
			c.Write(hello[:len(hello)/2])
			pause(ctx, time.Second)
		case 4: // of a record that is longer than any may be
			c.Write(append([]byte{22, 3, 1, 0xff, 0xff}, noise...))
		case 5:
			io.WriteString(c, plainGet)
		}
		a.closed(ctx, c)
	})
}

// clientHello is what a client says first.
func clientHello() []byte {
	var said bytes.Buffer
	tls.Client(recorder{&said}, &tls.Config{InsecureSkipVerify: true}).Handshake()
	return said.Bytes()
}

// A recorder is a connection on which nobody answers.
type recorder struct{ *bytes.Buffer }

func (recorder) Read([]byte) (int, error)         { return 0, io.EOF }
func (recorder) Close() error                     { return nil }
func (recorder) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (recorder) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (recorder) SetDeadline(time.Time) error      { return nil }
func (recorder) SetReadDeadline(time.Time) error  { return nil }
func (recorder) SetWriteDeadline(time.Time) error { return nil }

// Frames of HTTP/2 (RFC 9113 section 6).
const (
	frameHeaders  = 1
	frameReset    = 3
	frameSettings = 4
	endHeaders    = 4
	endStream     = 1
)

func frame(kind, flags byte, stream uint32, payload ...byte) []byte {
	f := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	return append(binary.BigEndian.AppendUint32(f, stream), payload...)
}

// preface begins a connection of HTTP/2 (RFC 9113 section 3.4).
func preface() []byte {
	return append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(frameSettings, 0, 0)...)
}

// reset opens streams and resets them until the server closes the connection.
func (a *attacker) reset(ctx context.Context, c net.Conn) {
	spoken := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err := spoken.Handshake(); err != nil || spoken.ConnectionState().NegotiatedProtocol != "h2" {
		if ctx.Err() == nil {
			a.breach("no HTTP/2: %v", err)
		}
		pause(ctx, time.Second)
		return
	}
	go io.Copy(io.Discard, spoken)
	spoken.Write(preface())
	// HPACK (RFC 7541 appendix A): GET, https, /, and an authority that is written out.
	header := append([]byte{0x82, 0x87, 0x84, 0x01, 1}, 'a')
	for stream := uint32(1); ctx.Err() == nil; {
		var batch []byte
		for range 50 {
			batch = append(batch, frame(frameHeaders, endHeaders|endStream, stream, header...)...)
			batch = append(batch, frame(frameReset, 0, stream, 0, 0, 0, 8)...) // CANCEL
			stream += 2
		}
		if _, err := spoken.Write(batch); err != nil {
			a.count("closed by the server")
			return
		}
		a.mu.Lock()
		a.did["resets"] += 50
		a.mu.Unlock()
	}
}

// writeTLS makes a certificate for the public listener.
func writeTLS(t *testing.T, dir string) {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	for name, block := range map[string]*pem.Block{
		"tls.pem":     {Type: "CERTIFICATE", Bytes: der},
		"tls-key.pem": {Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
